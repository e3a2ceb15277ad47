// Puts the page together: reads the state, shows a run, takes what the feed tells.

import * as api from "./api.js";
import { onTheme } from "./colours.js";
import { RunsPanel } from "./compare.js";
import { Curve } from "./curves.js";
import { el, fill } from "./format.js";
import { IncidentsPanel } from "./incidents.js";
import { listen, pan, zoom } from "./keys.js";
import { LearnersPanel } from "./learners.js";
import { LogPanel } from "./log.js";
import { GROUPS, LOSS, LossPanel } from "./loss.js";
import { Run } from "./run.js";
import { SignalsPanel } from "./signals.js";
import { StackPanel } from "./stack.js";
import { drawSummary, NEEDED } from "./summary.js";
import { onView, readView, setView, view } from "./view.js";

const SMALL = 380; // pixel columns of a small chart, at most
const at = (id) => document.getElementById(id);

const runs = new Map();
let campaigns = [];
let shown = null;
const troubles = new Map();

const help = at("help");
const panels = {
  runs: new RunsPanel(at("runs")),
  loss: new LossPanel(at("loss"), (mark, marks) => openMark(mark, marks)),
  signals: new SignalsPanel(at("signals"), (run, names) => run.load(names, SMALL, 0)),
  learners: new LearnersPanel(at("learners")),
  stack: new StackPanel(at("time")),
  incidents: new IncidentsPanel(at("incidents"), at("incident"), curveOf),
  log: new LogPanel(at("log")),
};

async function curveOf(run, name, low, high) {
  const frame = await api.curves(run.key, [name], { low, high, columns: 600 });
  const curve = new Curve();
  curve.take(frame.curves[0]);
  return curve;
}

function openMark(mark, marks) {
  if (mark.incident !== undefined) {
    panels.incidents.open(mark.incident);
    return;
  }
  fill(at("note"), ...marks.map((each) => el("p", {}, el("b", {}, `${each.kind} `), `${each.estimated ? "about " : ""}step ${each.step}: ${each.text}`)));
  at("note").hidden = false;
}

// Starting and choosing

async function start() {
  const state = await api.state();
  campaigns = state.campaigns;
  if (state.first) runs.set(state.first.key, new Run(state.first));
  const wanted = readView();
  const known = new Set(campaigns.flatMap((campaign) => campaign.runs.map((run) => run.key)));
  Object.assign(view, wanted, { run: known.has(wanted.run) ? wanted.run : state.first?.key ?? null, others: wanted.others.filter((key) => known.has(key)) });
  for (const campaign of campaigns) trouble(campaign.number, campaign.trouble);
  panels.runs.list_(campaigns);
  await show();
  return state.cursor;
}

async function show() {
  at("empty").hidden = view.run !== null;
  at("all").hidden = view.run === null;
  if (view.run === null) return;
  const keys = [view.run, ...view.others];
  await Promise.all(keys.filter((key) => !runs.has(key)).map(async (key) => runs.set(key, new Run(await api.run(key)))));
  shown = runs.get(view.run);
  document.title = `${shown.label} · tenfold watch`;
  await loadHead();
  drawAll();
  await panels.signals.refresh();
}

function others() {
  return view.others.map((key) => runs.get(key)).filter(Boolean);
}

async function loadHead() {
  const named = (run, names) => names.filter((name) => run.names.some((each) => each.name === name));
  await Promise.all([shown, ...others()].map((run) => run.load(named(run, [LOSS]), panels.loss.columns, GROUPS)));
  draw.head();
  if (view.range) await shown.load(named(shown, [LOSS]), SMALL, GROUPS, null); // what the head says is of the whole run
  await shown.load(named(shown, NEEDED.slice(1)), SMALL, 0, null);
  const rest = panels.learners.names(shown);
  await Promise.all([shown.load(named(shown, rest), SMALL, 0), shown.load(panels.stack.names(shown), 100, 90)]);
}

// Drawing

const draw = {
  head() {
    panels.loss.draw(shown, others());
    drawSummary(at("summary"), shown);
  },
  rest() {
    panels.signals.draw(shown, others());
    panels.learners.draw(shown);
    panels.stack.draw(shown);
    panels.incidents.draw(shown);
    panels.log.draw(shown);
    panels.runs.tell(shown, others());
  },
};

function drawAll() {
  draw.head();
  draw.rest();
  for (const [id, on] of [["log-scale", view.log], ["tall", view.tall]]) at(id).setAttribute("aria-pressed", String(on));
  at("range").textContent = view.range ? `steps ${view.range.low.toLocaleString("en-US")}–${view.range.high.toLocaleString("en-US")}` : "all steps";
  performance.mark("drawn");
  document.body.dataset.state = "drawn";
}

let due = null;
function drawSoon() {
  due ??= requestAnimationFrame(() => {
    due = null;
    if (shown) drawAll();
  });
}

let settling = null;
onView((changes) => {
  if ("run" in changes || "others" in changes) {
    panels.runs.list_(campaigns);
    show().catch(failed);
  } else if ("range" in changes) {
    drawSoon();
    clearTimeout(settling);
    settling = setTimeout(() => reload().catch(failed), 80);
  } else if ("incident" in changes && changes.incident !== null && shown) panels.incidents.open(changes.incident);
  else drawSoon();
});

async function reload() {
  await loadHead();
  await panels.signals.refresh();
  drawAll();
}

// What the feed tells

const told = {
  rows: (data) => runs.get(data.run)?.takeRows(data),
  names: (data) => update(data.run, { names: data.names }),
  forecast: (data) => update(data.run, { forecast: data.forecast }),
  trouble: (data) => trouble(data.campaign, data.line),
  rewind: (data) => note(`The run went back to step ${data.step.toLocaleString("en-US")} and goes on from there.`),
  events(data) {
    const run = runs.get(data.run);
    if (run) Object.assign(run, { events: [...run.events, ...data.events], learners: data.learners });
  },
  incident(data) {
    const run = runs.get(data.run);
    if (run) run.incidents = [...run.incidents.filter((each) => each.id !== data.incident.id), data.incident];
  },
  runs(data) {
    campaigns = campaigns.map((campaign) => (campaign.number === data.number ? data : campaign));
    for (const each of data.runs) update(each.key, { status: each.status, finished_at: each.finished_at });
    if (view.run === null && data.runs.length) setView({ run: data.runs.at(-1).key });
    else panels.runs.list_(campaigns);
  },
  reset() {
    runs.clear();
    start().catch(failed);
  },
};

function update(key, changes) {
  const run = runs.get(key);
  if (run) Object.assign(run, changes);
}

function trouble(campaign, line) {
  if (line) troubles.set(campaign, line);
  else troubles.delete(campaign);
  at("trouble").hidden = !troubles.size;
  fill(at("trouble"), ...[...troubles.values()].map((each) => el("p", {}, each)));
}

function note(text) {
  fill(at("note"), el("p", {}, text));
  at("note").hidden = false;
}

function failed(error) {
  trouble("page", error.message);
  document.body.dataset.state = "failed";
}

function linked(isLive) {
  at("link").textContent = isLive ? "live" : "cut off, trying again";
  at("link").className = isLive ? "badge ok" : "badge bad";
  if (isLive && troubles.has("page")) trouble("page", null);
}

// Buttons and keys

const buttons = {
  "zoom-in": () => zoom(shown, 0.5),
  "zoom-out": () => zoom(shown, 2),
  back: () => pan(shown, -0.25),
  forth: () => pan(shown, 0.25),
  whole: () => setView({ range: null }),
  "log-scale": () => setView({ log: !view.log }),
  tall: () => setView({ tall: !view.tall }),
  "help-button": () => help.showModal(),
  "help-close": () => help.close(),
};
for (const [id, action] of Object.entries(buttons)) at(id).addEventListener("click", () => (shown || id.startsWith("help")) && action());
document.addEventListener("dblclick", (event) => event.target.closest(".u-over") && setView({ range: null }));
listen({ run: () => shown, nextIncident: () => panels.incidents.next(), help });
onTheme(drawSoon);
addEventListener("resize", drawSoon);
addEventListener("hashchange", () => {
  const wanted = Object.entries(readView());
  const changes = wanted.filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(view[name]));
  if (changes.length) setView(Object.fromEntries(changes));
});

start()
  .then((cursor) =>
    api.follow(
      cursor,
      (kind, data) => {
        told[kind]?.(data);
        drawSoon();
      },
      linked,
    ),
  )
  .catch(failed);
