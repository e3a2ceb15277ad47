// The whole page by keyboard, and the same by buttons for fingers.

import { setView, view } from "./view.js";

export function zoom(run, factor) {
  const { low, high } = view.range ?? run.span;
  const middle = (low + high) / 2;
  const half = Math.max(((high - low) / 2) * factor, 2);
  within(run, middle - half, middle + half);
}

export function pan(run, share) {
  const { low, high } = view.range ?? run.span;
  const by = Math.round((high - low) * share);
  const moved = Math.min(Math.max(by, -low), Math.max(run.span.high - high, 0));
  if (moved) within(run, low + moved, high + moved);
}

function within(run, low, high) {
  const range = { low: Math.max(Math.floor(low), 0), high: Math.min(Math.ceil(high), run.span.high) };
  const all = range.low <= 0 && range.high >= run.span.high;
  setView({ range: all || range.high <= range.low ? null : range });
}

export function listen({ run, nextIncident, help }) {
  const actions = {
    "+": () => zoom(run(), 0.5),
    "=": () => zoom(run(), 0.5),
    "-": () => zoom(run(), 2),
    ArrowLeft: () => pan(run(), -0.25),
    ArrowRight: () => pan(run(), 0.25),
    0: () => setView({ range: null }),
    l: () => setView({ log: !view.log }),
    t: () => setView({ tall: !view.tall }),
    i: () => nextIncident(),
    r: () => document.querySelector("#run-select").focus(),
    "/": () => document.querySelector("#log-search").focus(),
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || document.querySelector("dialog[open]") || !run()) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
