// Learners: what each is doing, since when, how fast its link is, and what it has been through.

import { duration, el, fill, short, whole } from "./format.js";
import { drawStates, STATES } from "./heat.js";

const RATE = (learner) => `link/${learner}/up_bytes_per_second`;
const TRIP = (learner) => `link/${learner}/round_trip_seconds`;

export class LearnersPanel {
  constructor(section) {
    this.section = section;
    this.map = el("div", { class: "plot map-plot", role: "img", tabindex: "0", "aria-label": "learners over time" });
    this.table = el("table", {});
    fill(
      section.querySelector(".grid2"),
      el("figure", { class: "card" }, el("figcaption", {}, el("b", {}, "State over time")), this.map, legend()),
      el("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "learners" }, this.table),
    );
  }

  names(run) {
    const known = new Set(run.names.map((each) => each.name));
    return run.learners.flatMap(({ name }) => [RATE(name), TRIP(name)]).filter((name) => known.has(name));
  }

  draw(run) {
    this.section.hidden = !run.learners.length;
    if (this.section.hidden) return;
    drawStates(this.map, run);
    const head = ["learner", "state", "for", "lives", "strikes", "link up", "round trip"];
    fill(
      this.table,
      el("tr", {}, ...head.map((word, place) => el("th", { class: place > 1 ? "n" : "", scope: "col" }, word))),
      ...run.learners.map((learner) => row(run, learner)),
    );
  }
}

function row(run, learner) {
  const since = learner.spans.at(-1)?.[1];
  const until = run.finished_at ?? Date.now() / 1000;
  const rate = run.curve(RATE(learner.name)).latest;
  const trip = run.curve(TRIP(learner.name)).latest;
  const cells = [
    since ? duration(Math.max(until - since, 0)) : "–",
    whole(learner.lives),
    whole(learner.strikes),
    rate === null ? "–" : `${short(rate)}B/s`,
    trip === null ? "–" : `${short(trip * 1000)} ms`,
  ];
  return el(
    "tr",
    {},
    el("td", {}, learner.name),
    el("td", {}, el("i", { class: `dot ${learner.state}` }), learner.state),
    ...cells.map((text) => el("td", { class: "n" }, text)),
  );
}

function legend() {
  return el("p", { class: "legend soft" }, ...Object.keys(STATES).flatMap((state) => [el("i", { class: `dot ${state}` }), `${state} `]));
}
