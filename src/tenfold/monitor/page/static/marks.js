// Incidents, restarts and changes laid over a chart: buttons, so that a click, a finger or the keyboard opens them.

import { el, fill } from "./format.js";

const CLOSE = 22; // pixels; marks closer than this are one button
const SIGNS = { incident: "!", restart: "↻", change: "Δ", notice: "•", learner: "×", fault: "⚡", action: "→" };
const RANK = ["incident", "fault", "action", "change", "learner", "restart", "notice"];

export function marksOf(run) {
  const incidents = run.incidents.map((incident) => ({
    kind: "incident",
    step: incident.step,
    estimated: incident.estimated,
    text: incident.message,
    open: incident.state !== "closed",
    incident: incident.id,
  }));
  const events = run.events
    .filter((event) => event.mark)
    .map((event) => ({ kind: event.mark, step: event.step, estimated: event.estimated, text: event.message }));
  return [...incidents, ...events];
}

// Places the marks of a run on a chart; `opened(mark)` is called for the one that somebody chose.
export function placeMarks(chart, marks, opened) {
  const plot = chart.plot;
  if (!plot) return;
  chart.layer ??= el("div", { class: "marks" });
  if (chart.layer.parentNode !== plot.over) plot.over.append(chart.layer);
  const { min, max } = plot.scales.x;
  const seen = marks.filter((mark) => mark.step >= min && mark.step <= max).sort((a, b) => a.step - b.step);
  const focus = chart.layer.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  fill(chart.layer, ...clusters(seen, (step) => plot.valToPos(step, "x")).flatMap((cluster) => drawn(cluster, opened)));
  if (focus) chart.layer.querySelector(`[data-key="${focus}"]`)?.focus();
}

function clusters(marks, place) {
  const found = [];
  for (const mark of marks) {
    const x = place(mark.step);
    const last = found[found.length - 1];
    if (last && x - last.x < CLOSE) last.marks.push(mark);
    else found.push({ x, marks: [mark] });
  }
  return found;
}

function drawn({ x, marks }, opened) {
  const first = [...marks].sort((a, b) => RANK.indexOf(a.kind) - RANK.indexOf(b.kind))[0];
  const said = marks.map((mark) => `${mark.estimated ? "about " : ""}step ${mark.step}: ${mark.text}`).join("\n");
  const line = el("i", { class: `mark-line ${first.kind}` });
  const button = el(
    "button",
    { class: `mark ${first.kind}${first.open ? " open" : ""}`, title: said, "aria-label": `${first.kind}, ${said}`, onclick: () => opened(first, marks) },
    SIGNS[first.kind] + (marks.length > 1 ? marks.length : ""),
  );
  button.dataset.key = `${first.kind}-${first.step}`;
  for (const each of [line, button]) each.style.left = `${x}px`;
  return [line, button];
}
