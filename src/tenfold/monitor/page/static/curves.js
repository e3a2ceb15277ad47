// Curves of a run as the screen needs them: extremes of each pixel column, with live rows added, never asked for twice.

const MOST = 6000; // points of a curve before its oldest are thinned again

export class Curve {
  constructor() {
    this.steps = [];
    this.values = [];
    this.broken = [];
    this.means = null;
    this.last = -1;
  }

  take(entry) {
    this.steps = entry.steps;
    this.values = entry.values;
    this.broken = entry.broken;
    this.last = entry.last;
  }

  takeMeans(entry) {
    this.means = { steps: entry.steps, values: entry.values, width: entry.means, count: 0, sum: 0 };
  }

  // Rows of the feed. Those of steps that are there already take their place: a run that went back goes through them again.
  merge(steps, values) {
    if (!steps.length) return;
    const first = steps[0];
    if (first <= this.last) this.cut(first, steps[steps.length - 1]);
    const kept = steps.map((step, place) => [step, values[place]]);
    const at = upper(this.steps, first);
    const finite = kept.filter(([, value]) => value !== null);
    this.steps.splice(at, 0, ...finite.map(([step]) => step));
    this.values.splice(at, 0, ...finite.map(([, value]) => value));
    this.broken.push(...kept.filter(([, value]) => value === null).map(([step]) => step));
    if (first > this.last) this.average(finite);
    this.last = Math.max(this.last, steps[steps.length - 1]);
    if (this.steps.length > MOST) [this.steps, this.values] = extremes(this.steps, this.values, MOST / 4);
  }

  cut(from, to) {
    const [begin, end] = [lower(this.steps, from), upper(this.steps, to)];
    this.steps.splice(begin, end - begin);
    this.values.splice(begin, end - begin);
    this.broken = this.broken.filter((step) => step < from || step > to);
  }

  average(rows) {
    const means = this.means;
    if (!means) return;
    for (const [step, value] of rows) {
      means.sum += value;
      means.count += 1;
      if (means.count >= means.width) {
        means.steps.push(step - Math.floor(means.width / 2));
        means.values.push(means.sum / means.count);
        means.sum = means.count = 0;
      }
    }
  }

  // Value of the last step at or before this one.
  at(step) {
    const place = upper(this.steps, step) - 1;
    return place < 0 ? null : this.values[place];
  }

  get latest() {
    return this.values.length ? this.values[this.values.length - 1] : null;
  }
}

export function lower(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function upper(sorted, value) {
  return lower(sorted, value + 0.5); // steps are whole numbers
}

// The lowest and the highest point of each of `columns` stretches of equal width, as monitor/page/decimate.py has it.
export function extremes(steps, values, columns) {
  const kept = new Set([0, steps.length - 1]);
  const width = (steps[steps.length - 1] - steps[0] + 1) / columns;
  for (let begin = 0; begin < steps.length; ) {
    const column = Math.floor((steps[begin] - steps[0]) / width);
    let [low, high, place] = [begin, begin, begin];
    for (; place < steps.length && Math.floor((steps[place] - steps[0]) / width) === column; place++) {
      if (values[place] < values[low]) low = place;
      if (values[place] > values[high]) high = place;
    }
    kept.add(low).add(high);
    begin = place;
  }
  const places = [...kept].sort((a, b) => a - b);
  return [places.map((place) => steps[place]), places.map((place) => values[place])];
}

// Steps of a group of rows in the feed: [first, count], [first, count, stride] or [0, 0, 0, step, step, …].
export function stepsOf(packed) {
  if (packed.length > 3) return packed.slice(3);
  const [first, count, stride = 1] = packed;
  return Array.from({ length: count }, (_, place) => first + place * stride);
}
