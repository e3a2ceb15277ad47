// One run as the page holds it: what the server says of it, its curves, and those of the range that is looked at.

import * as api from "./api.js";
import { Curve, stepsOf } from "./curves.js";
import { view } from "./view.js";

export class Run {
  constructor(details) {
    Object.assign(this, details);
    this.whole = new Map();
    this.near = new Map(); // curves of the range, thinned for it
    this.nearRange = null;
    this.pending = new Map();
  }

  get label() {
    return `${this.where} · ${this.name}${this.kind === "train" ? "" : ` (${this.kind})`}`;
  }

  get isLive() {
    return this.status === "running";
  }

  // Steps that a chart of the whole run shows: with some way to go while it runs, up to the forecast's end.
  get span() {
    const end = this.steps ?? this.forecast?.curve?.steps.at(-1) ?? this.last;
    const last = Math.max(this.last, 1);
    return { low: 0, high: this.isLive ? Math.min(Math.max(last * 1.15, last + 10), Math.max(end, last)) : last };
  }

  // The curve to draw: thinned for the range where there is one, else the whole.
  curve(name) {
    const whole = this.whole.get(name) ?? new Curve();
    return view.range && sameRange(this.nearRange, view.range) ? this.near.get(name) ?? whole : whole;
  }

  // Reads what is missing of these curves, all in one request.
  async load(names, columns, means, range = view.range) {
    if (range && !sameRange(this.nearRange, range)) {
      this.near = new Map();
      this.nearRange = range;
    }
    const known = range ? this.near : this.whole;
    const missing = [...new Set(names)].filter((name) => !known.has(name));
    if (!missing.length) return;
    const fresh = new Map(missing.map((name) => [name, new Curve()]));
    for (const [name, curve] of fresh) known.set(name, curve);
    const frame = await api.curves(this.key, missing, { ...(range ?? {}), columns, means });
    for (const entry of frame.curves) {
      const curve = fresh.get(entry.name);
      if (entry.means !== undefined) curve.takeMeans(entry);
      else take(curve, entry);
    }
  }

  takeRows({ groups }) {
    for (const { steps: packed, values } of groups) {
      const steps = stepsOf(packed);
      this.last = Math.max(this.last, steps[steps.length - 1]);
      for (const [name, numbers] of Object.entries(values)) {
        this.whole.get(name)?.merge(steps, numbers);
        this.near.get(name)?.merge(steps, numbers);
      }
    }
  }
}

// Rows of the feed may have come while the frame was on its way: they are newer.
function take(curve, entry) {
  const [steps, values, broken] = [curve.steps, curve.values, curve.broken];
  curve.take(entry);
  const rows = [...steps.map((step, place) => [step, values[place]]), ...broken.map((step) => [step, null])];
  const newer = rows.filter(([step]) => step > entry.last).sort((a, b) => a[0] - b[0]);
  curve.merge(newer.map(([step]) => step), newer.map(([, value]) => value));
}

function sameRange(a, b) {
  return a?.low === b?.low && a?.high === b?.high;
}
