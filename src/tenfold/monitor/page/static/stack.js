// Where the time of a step goes: its parts on top of one another, as means over stretches of the run.

import { colour } from "./colours.js";
import { el, fill, percent, short } from "./format.js";
import { view } from "./view.js";

const STRETCHES = 90;
const TINTS = ["c0", "c1", "c2", "c3", "c4", "soft", "ink", "line"];
const HEIGHT = 170;

export class StackPanel {
  constructor(section) {
    this.section = section;
    this.plotted = el("div", { class: "plot map-plot", role: "img", tabindex: "0", "aria-label": "parts of a step's time" });
    this.table = el("table", {});
    fill(
      section.querySelector(".grid2"),
      el("figure", { class: "card" }, el("figcaption", {}, el("b", {}, "Seconds a step"), el("span", { class: "soft" }, " by part")), this.plotted),
      el("div", { class: "card" }, this.table),
    );
  }

  names(run) {
    return run.names.map((each) => each.name).filter((name) => name.startsWith("time/"));
  }

  draw(run) {
    const names = this.names(run);
    this.section.hidden = !names.length;
    if (this.section.hidden) return;
    const range = view.range ?? { low: 0, high: Math.max(run.last, 1) };
    const parts = names.map((name) => ({ name: name.slice(5), means: stretches(run.curve(name), range) }));
    const typical = parts.map((part) => average(part.means)).map((mean, place) => [mean, place]).sort((a, b) => b[0] - a[0]);
    const ordered = typical.map(([mean, place], number) => ({ ...parts[place], mean, tint: TINTS[number % TINTS.length] }));
    this.paint(ordered);
    this.tell(ordered);
  }

  paint(parts) {
    const width = Math.max(this.plotted.clientWidth, 200);
    const canvas = el("canvas", { class: "map" });
    [canvas.width, canvas.height] = [width * devicePixelRatio, HEIGHT * devicePixelRatio];
    canvas.style.height = `${HEIGHT}px`;
    const context = canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    const sums = Array.from({ length: STRETCHES }, (_, column) => parts.reduce((sum, part) => sum + (part.means[column] ?? 0), 0));
    const most = Math.max(...sums, 1e-9);
    const step = (width - 44) / STRETCHES;
    for (let column = 0; column < STRETCHES; column++) {
      let top = HEIGHT - 4;
      for (const part of parts) {
        const height = ((part.means[column] ?? 0) / most) * (HEIGHT - 16);
        context.fillStyle = colour(part.tint);
        context.fillRect(44 + column * step, top - height, step + 0.3, height);
        top -= height;
      }
    }
    context.fillStyle = colour("soft");
    context.font = "12px system-ui, sans-serif";
    context.fillText(`${short(most)} s`, 0, 18);
    context.fillText("0", 0, HEIGHT - 4);
    fill(this.plotted, canvas);
  }

  tell(parts) {
    const whole = parts.reduce((sum, part) => sum + part.mean, 0) || 1;
    const said = parts.map((part) => `${part.name} ${percent(part.mean / whole)}`);
    this.plotted.setAttribute("aria-label", `parts of a step's time: ${said.join(", ")}`);
    fill(
      this.table,
      el("tr", {}, ...["part", "mean", "share"].map((word, place) => el("th", { class: place ? "n" : "", scope: "col" }, word))),
      ...parts.map((part) =>
        el("tr", {}, el("td", {}, el("i", { class: `square ${part.tint}` }), part.name), el("td", { class: "n" }, `${short(part.mean * 1000)} ms`), el("td", { class: "n" }, percent(part.mean / whole))),
      ),
    );
  }
}

function stretches(curve, { low, high }) {
  const sums = new Array(STRETCHES).fill(0);
  const counts = new Array(STRETCHES).fill(0);
  const { steps, values } = curve.means?.steps.length >= STRETCHES && !view.range ? curve.means : curve;
  steps.forEach((step, place) => {
    const column = Math.floor(((step - low) / (high - low + 1)) * STRETCHES);
    if (column < 0 || column >= STRETCHES) return;
    sums[column] += values[place];
    counts[column] += 1;
  });
  let last = 0;
  return sums.map((sum, column) => (last = counts[column] ? sum / counts[column] : last));
}

function average(values) {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
}
