// Maps: members of a family over steps, coloured by value; learners over time, coloured by state.

import { colour, mixed } from "./colours.js";
import { clock, el, fill, short } from "./format.js";
import { view } from "./view.js";

const ROW = 20;
const NAME = 84;
export const STATES = { training: "c2", healing: "c4", out: "c1", left: "soft", finished: "c0" };

function prepared(parent, rows) {
  const width = Math.max(parent.clientWidth, 200);
  const canvas = el("canvas", { class: "map" });
  [canvas.width, canvas.height] = [width * devicePixelRatio, (rows * ROW + 20) * devicePixelRatio];
  canvas.style.height = `${rows * ROW + 20}px`;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  fill(parent, canvas);
  return { context, width };
}

function named(context, name, row) {
  context.fillStyle = colour("soft");
  context.fillText(name.length > 12 ? `${name.slice(0, 11)}…` : name, 0, row * ROW + ROW / 2, NAME - 6);
}

// `members`: [[name, curve]]. Each column shows its value furthest from the family's median, so that no spike is lost.
export function drawHeat(parent, members, span) {
  const { low, high } = view.range ?? span;
  const { context, width } = prepared(parent, members.length);
  const columns = Math.max(Math.floor((width - NAME) / 3), 1);
  const seen = members.flatMap(([, curve]) => curve.values.filter((_, place) => curve.steps[place] >= low && curve.steps[place] <= high));
  const sorted = seen.slice().sort((a, b) => a - b);
  const middle = sorted[sorted.length >> 1] ?? 0;
  const [least, most] = [sorted[0] ?? 0, sorted[sorted.length - 1] ?? 1];
  members.forEach(([name, curve], row) => {
    named(context, name, row);
    const cells = new Map();
    for (let place = 0; place < curve.steps.length; place++) {
      const column = Math.floor(((curve.steps[place] - low) / Math.max(high - low, 1)) * columns);
      if (column < 0 || column >= columns) continue;
      const known = cells.get(column);
      if (known === undefined || Math.abs(curve.values[place] - middle) > Math.abs(known - middle)) cells.set(column, curve.values[place]);
    }
    let last = null;
    for (let column = 0; column < columns; column++) {
      last = cells.get(column) ?? last;
      if (last === null) continue;
      context.fillStyle = mixed(colour("c0"), colour("c1"), (last - least) / (most - least || 1));
      context.fillRect(NAME + column * 3, row * ROW + 2, 3, ROW - 4);
    }
  });
  context.fillStyle = colour("soft");
  context.fillText(short(low), NAME, members.length * ROW + 12);
  context.textAlign = "right";
  context.fillText(`${short(high)} · blue ${short(least)}, orange ${short(most)}`, width, members.length * ROW + 12);
  parent.setAttribute("aria-label", `${members.length} rows over steps ${short(low)} to ${short(high)}, values ${short(least)} to ${short(most)}`);
}

// Learners over the run's time.
export function drawStates(parent, run) {
  const begin = run.started_at;
  const end = run.finished_at ?? Date.now() / 1000;
  const { context, width } = prepared(parent, run.learners.length);
  const place = (at) => NAME + ((at - begin) / Math.max(end - begin, 1)) * (width - NAME);
  run.learners.forEach((learner, row) => {
    named(context, learner.name, row);
    learner.spans.forEach(([state, at], number) => {
      const until = learner.spans[number + 1]?.[1] ?? end;
      const [left, thick] = [place(at), state === "training" || state === "finished" ? ROW - 6 : state === "healing" ? 8 : 3];
      context.fillStyle = colour(STATES[state] ?? "soft");
      context.fillRect(left, row * ROW + (ROW - thick) / 2, Math.max(place(until) - left, 1.5), thick);
    });
  });
  context.fillStyle = colour("soft");
  context.fillText(`${clock(begin)} UTC`, NAME, run.learners.length * ROW + 12);
  context.textAlign = "right";
  context.fillText(`${clock(end)} UTC`, width, run.learners.length * ROW + 12);
  parent.setAttribute("aria-label", run.learners.map((learner) => `${learner.name}: ${learner.state}`).join(", "));
}
