// The loss in the band that was forecast before the run: what people look at first.

import { Card } from "./card.js";
import { el, fill, short, whole } from "./format.js";
import { marksOf, placeMarks } from "./marks.js";

export const LOSS = "train/loss";
export const GROUPS = 240; // of steps whose mean is drawn over the single losses

export class LossPanel {
  constructor(parent, opened) {
    this.opened = opened;
    this.card = new Card({ title: "Training loss", unit: "nats per token", height: 340, onReadout: (at) => this.say(at) });
    this.card.element.classList.add("loss");
    this.legend = el("p", { class: "legend soft" });
    this.card.element.append(this.legend);
    fill(parent, this.card.element);
  }

  get columns() {
    return this.card.chart.columns;
  }

  draw(run, others) {
    this.run = run;
    const compared = [run, ...others];
    const lines = compared.flatMap((each, number) => [
      { label: each.label, curve: each.curve(LOSS), stroke: compared.length > 1 ? `c${number % 5}` : "soft", width: 1, faint: true },
      { label: `${each.label}, mean`, curve: each.curve(LOSS), stroke: `c${number % 5}`, width: 2, means: true },
    ]);
    const span = { low: 0, high: Math.max(...compared.map((each) => each.span.high)) };
    const marks = marksOf(run);
    const placed = (chart) => placeMarks(chart, marks, this.opened);
    this.card.chart.draw(lines, { span, placed, fitted: true, ...bandsOf(run) });
    this.card.offer(run, [LOSS]);
    placed(this.card.chart);
    this.explain(compared);
    this.say(null);
  }

  explain(compared) {
    const band = this.run.forecast?.curve;
    const levels = band ? [...band.bands].map((each) => `${Math.round(100 * each.level)}%`).join(", ") : null;
    fill(
      this.legend,
      ...compared.flatMap((each, number) => [el("i", { class: `swatch s${number % 5}` }), `${each.label} `]),
      "thin: every step's lowest and highest; thick: mean. Orange triangles: spikes beyond the axis (tall shows them). ",
      band ? `Shaded: forecast before the run, ${levels}; dashed: its middle.` : "No forecast was registered for this run.",
    );
  }

  say(at) {
    const { run } = this;
    if (!run) return;
    const step = at?.step ?? run.curve(LOSS).last;
    const said = [`step ${whole(Math.max(step, 0))}`, `loss ${short(run.curve(LOSS).at(step))}`];
    const band = widest(run);
    if (band) said.push(`forecast ${short(between(band.steps, band.low, step))}–${short(between(band.steps, band.high, step))}`);
    this.card.value.textContent = said.join(" · ");
  }
}

function bandsOf(run) {
  const curve = run.forecast?.curve;
  if (!curve) return {};
  const widestFirst = [...curve.bands].sort((a, b) => b.level - a.level);
  return { bands: widestFirst.map((band) => ({ steps: curve.steps, low: band.low, high: band.high })), median: { steps: curve.steps, values: curve.losses } };
}

function widest(run) {
  return bandsOf(run).bands?.[0] ?? null;
}

// Whether the mean loss lies in the widest band now: "inside", "above", "below", or null where nothing can be said.
export function sideOf(run) {
  const band = widest(run);
  const means = run.whole.get(LOSS)?.means;
  if (!band || !means?.steps.length) return null;
  const [step, value] = [means.steps.at(-1), means.values.at(-1)];
  if (step < band.steps[0]) return null;
  if (value > between(band.steps, band.high, step)) return "above";
  return value < between(band.steps, band.low, step) ? "below" : "inside";
}

function between(steps, values, step) {
  if (step <= steps[0]) return step < steps[0] ? NaN : values[0];
  for (let place = 1; place < steps.length; place++) {
    if (step <= steps[place]) {
      const share = (step - steps[place - 1]) / (steps[place] - steps[place - 1]);
      return values[place - 1] + share * (values[place] - values[place - 1]);
    }
  }
  return values[values.length - 1];
}
