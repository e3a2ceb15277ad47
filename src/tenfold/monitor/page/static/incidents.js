// Incidents: the list, and one opened with its evidence and what to do.

import { Card } from "./card.js";
import { el, fill, moment, whole } from "./format.js";
import { setView, view } from "./view.js";

const BEYOND = 60; // steps around an incident that its evidence shows where it does not say which
const EVENT_FIRST = { critical: 0, warning: 1, notice: 2 };

export class IncidentsPanel {
  // `show(low, high)` leads the curves to a range.
  constructor(section, dialog, need) {
    this.list = section.querySelector(".list");
    this.heading = section.querySelector("h2");
    this.dialog = dialog;
    this.need = need;
    this.cards = [];
    dialog.addEventListener("close", () => this.closed());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  draw(run) {
    this.run = run;
    const open = run.incidents.filter((incident) => incident.state !== "closed").length;
    this.heading.textContent = `Incidents · ${open} open of ${run.incidents.length}`;
    const ordered = [...run.incidents].sort(
      (a, b) => (a.state === "closed") - (b.state === "closed") || EVENT_FIRST[a.severity] - EVENT_FIRST[b.severity] || b.opened_at - a.opened_at,
    );
    const kept = document.activeElement?.dataset?.incident;
    fill(this.list, ...(ordered.length ? ordered.map((incident) => this.entry(incident)) : [el("p", { class: "soft" }, "Nothing looked wrong so far.")]));
    if (kept) this.list.querySelector(`[data-incident="${kept}"]`)?.focus();
    if (view.incident !== null) this.open(view.incident);
  }

  entry(incident) {
    const closed = incident.state === "closed";
    return el(
      "button",
      { class: `entry ${incident.severity}${closed ? " closed" : ""}`, "data-incident": incident.id, onclick: () => this.open(incident.id) },
      el("b", { class: "kind" }, incident.kind),
      el("span", { class: "soft" }, ` ${incident.severity}, ${incident.state} · ${place(incident)}`),
      el("span", { class: "sentence" }, incident.message),
    );
  }

  open(id) {
    const incident = this.run?.incidents.find((each) => each.id === id);
    if (!incident) return;
    const shown = JSON.stringify(incident) + this.run.key;
    if (this.dialog.open && this.shown === shown) return;
    this.shown = shown;
    for (const card of this.cards.splice(0)) card.destroy();
    const evidence = el("div", { class: "evidence" });
    fill(
      this.dialog,
      el("button", { class: "close", "aria-label": "close", onclick: () => this.dialog.close() }, "×"),
      el("h2", { id: "incident-title" }, incident.kind),
      el("p", { class: "soft" }, `${incident.severity}, ${incident.state} · ${place(incident)} · opened ${moment(incident.opened_at)}`),
      el("p", {}, incident.message),
      el("h3", {}, "What to do"),
      el("p", { class: "action" }, incident.action),
      incident.verdict ? el("p", {}, el("b", {}, "Verdict: "), incident.verdict) : null,
      el("h3", {}, "Evidence"),
      evidence,
      details(incident),
      el("p", { class: "buttons" }, el("button", { onclick: () => this.lead(incident) }, "Show these steps in every chart")),
    );
    if (!this.dialog.open) this.dialog.showModal();
    if (view.incident !== id) setView({ incident: id });
    this.fillEvidence(evidence, incident);
  }

  async fillEvidence(parent, incident) {
    const known = new Set(this.run.names.map((each) => each.name));
    for (const each of incident.evidence) {
      const { name, low, high } = metricOf(each.where, incident.step);
      if (each.kind !== "metric" || !known.has(name)) {
        parent.append(el("p", {}, el("b", {}, `${each.kind} `), el("code", {}, each.where), ` ${each.note}`));
        continue;
      }
      const card = new Card({ title: name, height: 120 });
      this.cards.push(card);
      parent.append(card.element, el("p", { class: "soft" }, each.note));
      const curve = await this.need(this.run, name, low, high);
      if (card.element.isConnected) drawEvidence(card, curve, low, high);
    }
    if (!incident.evidence.length) parent.append(el("p", { class: "soft" }, "None beyond the sentence above."));
  }

  lead(incident) {
    const metric = incident.evidence.find((each) => each.kind === "metric");
    const { low, high } = metricOf(metric?.where ?? "", incident.step);
    this.dialog.close();
    setView({ range: { low, high } });
  }

  closed() {
    this.shown = null;
    for (const card of this.cards.splice(0)) card.destroy();
    setView({ incident: null });
    this.list.querySelector(`[data-incident="${this.last}"]`)?.focus();
  }

  // The incident after the one that was opened last, open ones first.
  next() {
    const buttons = [...this.list.querySelectorAll("[data-incident]")];
    const at = buttons.findIndex((button) => button.dataset.incident === this.last);
    const button = buttons[(at + 1) % buttons.length];
    if (!button) return;
    this.last = button.dataset.incident;
    button.click();
  }
}

function drawEvidence(card, curve, low, high) {
  const lines = [{ label: card.title, curve, stroke: "c1", width: 1.6 }];
  const { range } = view;
  view.range = { low, high }; // this chart alone: no listener is told
  card.draw(lines, { span: { low, high } });
  view.range = range;
}

function place(incident) {
  return `${incident.estimated ? "about step" : "step"} ${whole(incident.step)}`;
}

// `train/loss 90–100` is a metric and its steps.
function metricOf(where, step) {
  const found = /^(\S+) (\d+)(?:[–-](\d+))?$/.exec(where);
  const name = found ? found[1] : where.split(" ")[0];
  const first = found ? Number(found[2]) : Math.max(step - BEYOND, 0);
  const last = found ? Number(found[3] ?? found[2]) : step + BEYOND;
  const margin = last - first < 4 ? 20 : 0;
  return { name, low: Math.max(first - margin, 0), high: last + margin };
}

function details(incident) {
  const entries = Object.entries(incident.data);
  if (!entries.length) return null;
  return el("details", {}, el("summary", {}, "Figures"), el("table", {}, ...entries.map(([key, value]) => el("tr", {}, el("td", {}, key.replaceAll("_", " ")), el("td", { class: "n" }, String(value))))));
}
