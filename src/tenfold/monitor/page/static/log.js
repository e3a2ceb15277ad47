// The log: every event of the run, newest first, with a word to look for.

import { el, fill, moment, whole } from "./format.js";

const MOST = 300; // lines shown

export class LogPanel {
  constructor(section) {
    this.table = section.querySelector("table");
    this.sought = section.querySelector("input");
    this.sought.addEventListener("input", () => this.run && this.draw(this.run));
  }

  draw(run) {
    this.run = run;
    const word = this.sought.value.trim().toLowerCase();
    const found = run.events.filter((event) => !word || `${event.kind} ${event.message}`.toLowerCase().includes(word)).reverse();
    fill(
      this.table,
      el("tr", {}, ...["time", "step", "kind", "what happened"].map((name) => el("th", { scope: "col" }, name))),
      ...found.slice(0, MOST).map((event) =>
        el("tr", {}, el("td", { class: "few" }, moment(event.at)), el("td", { class: "n" }, `${event.estimated ? "≈ " : ""}${whole(event.step)}`), el("td", { class: "few" }, event.kind), el("td", {}, event.message)),
      ),
      found.length > MOST ? el("tr", {}, el("td", { colspan: 4 }, `and ${whole(found.length - MOST)} older ones`)) : null,
    );
  }
}
