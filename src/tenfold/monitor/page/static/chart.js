// One chart: lines over steps, drawn by uPlot, with bands and marks of the run laid under and over them.

import { colour, faded } from "./colours.js";
import { short } from "./format.js";
import { setView, view } from "./view.js";

const OPACITIES = [0.14, 0.17, 0.22]; // widest band first, as in the report
const FIRST_SHARE = 20; // the first twentieth does not stretch the axis: it would flatten the rest
const together = uPlot.sync("steps");

// `lines`: [{label, curve, stroke, width, dash, faint, means}]; `extra`: {bands, marks, span, unit}.
export class Chart {
  constructor(parent, { height, label, onReadout = () => {} }) {
    this.parent = parent;
    this.height = height;
    this.label = label;
    this.onReadout = onReadout;
    this.lines = [];
    this.extra = {};
    this.plot = null;
    this.drawn = 0;
    this.resizer = new ResizeObserver(() => this.resized());
    this.resizer.observe(parent);
  }

  get columns() {
    return Math.max(Math.round(this.parent.clientWidth), 100);
  }

  resized() {
    if (this.plot && this.plot.width !== this.parent.clientWidth) this.plot.setSize(this.size());
  }

  size() {
    return { width: this.parent.clientWidth, height: this.height };
  }

  // Lines of other kinds than before make a new plot; else only its data are set.
  draw(lines, extra = {}) {
    const kind = (each) => [each.label, each.stroke, each.means].join();
    const same = this.plot && this.log === view.log && lines.map(kind).join(";") === this.lines.map(kind).join(";");
    this.lines = lines;
    this.extra = extra;
    if (same) this.plot.setData(this.data(), false);
    else this.build();
    this.rescale();
    this.drawn += 1;
    this.parent.dataset.drawn = String(this.drawn);
    this.parent.setAttribute("aria-label", this.summary());
  }

  data() {
    const each = this.lines.map(({ curve, means }) => (means ? curve.means ?? EMPTY : curve));
    if (!each.length) return [[]];
    if (each.length === 1) return [each[0].steps, each[0].values];
    return uPlot.join(each.map(({ steps, values }) => [steps, values]));
  }

  build() {
    this.plot?.destroy();
    this.log = view.log;
    this.plot = new uPlot(this.options(), this.data(), this.parent);
  }

  redraw() {
    if (this.plot) {
      this.build();
      this.rescale();
    }
  }

  rescale() {
    const { low, high } = view.range ?? this.extra.span ?? { low: 0, high: 1 };
    this.plot.setScale("x", { min: low, max: Math.max(high, low + 1) });
  }

  options() {
    const axis = { stroke: () => colour("soft"), font: "12px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: () => colour("line"), width: 1 };
    return {
      ...this.size(),
      padding: [this.extra.placed ? 32 : 10, 22, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: together.key, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        focus: { prox: 24 },
      },
      scales: { x: { time: false }, y: { distr: this.log ? 3 : 1, range: () => this.range() } },
      axes: [
        { ...axis, size: 26, grid: { show: false }, values: (_plot, ticks) => stepNames(ticks) },
        { ...axis, size: 58, grid, values: (_plot, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))) },
      ],
      series: [{}, ...this.lines.map((line) => this.series(line))],
      hooks: {
        drawAxes: [(plot) => this.drawBands(plot)],
        draw: [(plot) => this.drawBroken(plot), (plot) => this.drawBeyond(plot)],
        setSelect: [(plot) => this.selected(plot)],
        setCursor: [(plot) => this.readout(plot)],
        setScale: [(_plot, key) => key === "x" && queueMicrotask(() => this.extra.placed?.(this))],
      },
    };
  }

  series({ label, stroke, width = 1.6, dash, faint }) {
    return {
      label,
      stroke: () => (faint ? faded(stroke, 0.38) : /^c\d$/.test(stroke) ? colour(stroke) : stroke),
      width,
      dash,
      spanGaps: true,
      points: { show: (plot, number) => plot.data[number].filter((value) => value !== undefined && value !== null).length < 40 && !faint, size: 4 },
    };
  }

  // Whether the axis fits means and bands alone, so that one spike does not flatten the band; triangles tell what is above.
  get isFitted() {
    return Boolean(this.extra.fitted) && !view.tall && this.lines.some(({ curve, means }) => means && curve.means?.steps.length > 3);
  }

  // What is seen of all lines and bands, the first twentieth of a whole run left out.
  range() {
    const { low, high } = view.range ?? this.extra.span ?? { low: 0, high: 1 };
    const from = view.range ? low : low + (high - low) / FIRST_SHARE;
    let [least, most] = [Infinity, -Infinity];
    const see = (steps, values) => {
      for (let place = 0; place < steps.length; place++) {
        const value = values[place];
        if (steps[place] < from || steps[place] > high || (this.log && value <= 0)) continue;
        if (value < least) least = value;
        if (value > most) most = value;
      }
    };
    for (const { curve, means } of this.lines) {
      if (!this.isFitted || means) see(...(means && this.isFitted ? [(curve.means ?? EMPTY).steps, (curve.means ?? EMPTY).values] : [curve.steps, curve.values]));
    }
    for (const band of this.extra.bands ?? []) {
      see(band.steps, band.low);
      see(band.steps, band.high);
    }
    if (least > most) return this.log ? [0.1, 1] : [0, 1];
    if (this.log) return this.isFitted ? [least / 1.06, most * 1.15] : [least / 1.05, most * 1.05];
    const margin = (most - least) * (this.isFitted ? 0.25 : 0.06) || Math.abs(most) * 0.05 || 1;
    const zero = least >= 0 && least - margin < 0;
    return [zero ? 0 : least - margin, most + margin];
  }

  drawBands(plot) {
    const { bands = [], median } = this.extra;
    const context = plot.ctx;
    context.save();
    context.beginPath();
    context.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    context.clip();
    bands.forEach((band, number) => {
      context.beginPath();
      trace(plot, band.steps, band.high, 1);
      trace(plot, band.steps, band.low, -1);
      context.closePath();
      context.fillStyle = faded("c0", OPACITIES[Math.min(number, 2)]);
      context.fill();
    });
    if (median) {
      context.beginPath();
      trace(plot, median.steps, median.values, 1);
      context.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      context.lineWidth = 1.4 * devicePixelRatio;
      context.strokeStyle = colour("c0");
      context.stroke();
    }
    context.restore();
  }

  // Values that are not finite have no height: a tick at the top says where they are.
  drawBroken(plot) {
    const context = plot.ctx;
    context.save();
    context.fillStyle = colour("c1");
    for (const { curve, means } of this.lines) {
      for (const step of means ? [] : curve.broken) {
        const x = plot.valToPos(step, "x", true);
        if (x >= plot.bbox.left && x <= plot.bbox.left + plot.bbox.width) {
          context.fillRect(x - devicePixelRatio, plot.bbox.top, 2 * devicePixelRatio, 9 * devicePixelRatio);
        }
      }
    }
    context.restore();
  }

  // A triangle at the top over every stretch whose highest point lies above the axis.
  drawBeyond(plot) {
    if (!this.isFitted) return;
    const context = plot.ctx;
    const top = plot.scales.y.max;
    const { min, max } = plot.scales.x;
    context.save();
    context.fillStyle = colour("c1");
    let last = -Infinity;
    for (const { curve, means } of this.lines) {
      for (let place = 0; place < (means ? 0 : curve.steps.length); place++) {
        const step = curve.steps[place];
        if (curve.values[place] <= top || step < min || step > max || (!view.range && step < max / FIRST_SHARE)) continue;
        const x = plot.valToPos(step, "x", true);
        if (Math.abs(x - last) < 4 * devicePixelRatio) continue;
        last = x;
        triangle(context, x, plot.bbox.top, 5 * devicePixelRatio);
      }
    }
    context.restore();
  }

  selected(plot) {
    if (plot.select.width < 4) return;
    const low = plot.posToVal(plot.select.left, "x");
    const high = plot.posToVal(plot.select.left + plot.select.width, "x");
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    setView({ range: { low: Math.max(0, Math.floor(low)), high: Math.max(Math.ceil(high), Math.floor(low) + 1) } });
  }

  readout(plot) {
    if (plot.cursor.left === undefined || plot.cursor.left < 0) {
      this.onReadout(null);
      return;
    }
    const step = Math.round(plot.posToVal(plot.cursor.left, "x"));
    this.onReadout({ step, values: this.lines.filter((line) => !line.means).map((line) => [line.label, line.curve.at(step)]) });
  }

  summary() {
    const said = this.lines
      .filter((line) => !line.means)
      .slice(0, 6)
      .map(({ label, curve }) => `${label} ${short(curve.latest)}`);
    return `${this.label}: ${said.join(", ") || "nothing yet"}`;
  }

  picture() {
    const canvas = document.createElement("canvas");
    const own = this.plot.ctx.canvas;
    const head = 26 * devicePixelRatio;
    [canvas.width, canvas.height] = [own.width, own.height + head];
    const context = canvas.getContext("2d");
    context.fillStyle = colour("card");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = colour("ink");
    context.font = `600 ${14 * devicePixelRatio}px system-ui, sans-serif`;
    context.fillText(this.label, 10 * devicePixelRatio, 18 * devicePixelRatio);
    context.drawImage(own, 0, head);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  destroy() {
    this.resizer.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}

// Steps on the axis: 1.2k, or written out where they lie close together.
function stepNames(ticks) {
  const close = ticks.at(-1) - ticks[0] < 5000 && ticks.at(-1) >= 5000;
  return ticks.map((tick) => (!Number.isInteger(tick) ? "" : close ? tick.toLocaleString("en-US") : short(tick)));
}

const EMPTY = { steps: [], values: [] };

function triangle(context, x, y, size) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - size, y + 1.6 * size);
  context.lineTo(x + size, y + 1.6 * size);
  context.fill();
}

function trace(plot, steps, values, direction) {
  const places = steps.keys();
  for (const place of direction > 0 ? places : [...places].reverse()) {
    plot.ctx.lineTo(plot.valToPos(steps[place], "x", true), plot.valToPos(values[place], "y", true));
  }
}
