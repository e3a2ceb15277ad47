// Every other figure, by layer: one chart a metric, one for a family, a map for a family of many.

import { Card } from "./card.js";
import { lineColour } from "./colours.js";
import { el, fill } from "./format.js";
import { drawHeat } from "./heat.js";
import { LOSS } from "./loss.js";
import { view } from "./view.js";

const LAYERS = ["learning", "numerics", "data", "process", "network", "hardware", "other"];
const MOST_LINES = 6; // of a family; more are a map
const FIRST = ["holdout", "train/grad_norm", "train/learning_rate", "train/update_norm"];

export class SignalsPanel {
  // `need(run, names)` asks for curves; it is called for cards that come into sight.
  constructor(parent, need) {
    this.parent = parent;
    this.need = need;
    this.cards = new Map();
    this.sight = new IntersectionObserver((entries) => this.seen(entries), { rootMargin: "150px" });
  }

  draw(run, others) {
    this.run = run;
    this.others = others;
    const plan = planOf(run.names);
    const wanted = plan.map((each) => `${each.layer} ${each.title} ${each.names.length}`).join("\n");
    if (wanted !== this.laid) this.lay(plan, wanted);
    for (const item of this.cards.values()) this.drawOne(item);
  }

  lay(plan, wanted) {
    this.laid = wanted;
    for (const { card } of this.cards.values()) card?.destroy?.();
    this.cards.clear();
    this.sight.disconnect();
    const sections = LAYERS.filter((layer) => plan.some((each) => each.layer === layer)).map((layer) => {
      const grid = el("div", { class: "small-grid" });
      for (const each of plan.filter((one) => one.layer === layer)) grid.append(this.card(each));
      return el("section", { id: `layer-${layer}`, "aria-labelledby": `head-${layer}` }, el("h2", { id: `head-${layer}` }, layer[0].toUpperCase() + layer.slice(1)), grid);
    });
    fill(this.parent, ...sections);
    for (const { element } of this.cards.values()) this.sight.observe(element);
  }

  card(each) {
    const item = { ...each, isMap: each.names.length > MOST_LINES || (each.layer === "network" && each.names.length > 1) };
    if (each.digest) {
      item.element = digestCard(each);
    } else {
      item.card = new Card({ title: each.title, unit: each.unit, meaning: each.meaning, height: 140 });
      item.element = item.card.element;
      if (each.meaning) item.element.append(el("p", { class: "meaning soft" }, each.meaning));
    }
    item.element.item = item;
    this.cards.set(each.title, item);
    return item.element;
  }

  seen(entries) {
    const appeared = [];
    for (const { target, isIntersecting } of entries) {
      target.item.visible = isIntersecting;
      if (isIntersecting) appeared.push(target.item);
    }
    if (!appeared.length || !this.run) return;
    this.ask(appeared).then(() => appeared.forEach((item) => this.drawOne(item)));
  }

  ask(items) {
    const names = items.filter((item) => !item.digest).flatMap((item) => item.names);
    return Promise.all([this.run, ...this.others].map((run) => this.need(run, names.filter((name) => run.names.some((each) => each.name === name)))));
  }

  // After the range changed: what is in sight is asked for again, thinned for it.
  refresh() {
    const visible = [...this.cards.values()].filter((item) => item.visible);
    return this.ask(visible).then(() => visible.forEach((item) => this.drawOne(item)));
  }

  drawOne(item) {
    if (!item.visible || !item.card) return;
    item.card.offer(this.run, item.names);
    if (item.isMap) {
      drawHeat(item.card.plotted, item.members.map((name, place) => [name, this.run.curve(item.names[place])]), this.run.span);
      item.card.plotted.dataset.drawn = String(Number(item.card.plotted.dataset.drawn ?? 0) + 1);
      return;
    }
    const compared = [this.run, ...this.others];
    const lines = compared.flatMap((run, number) =>
      item.names.map((name, place) => ({
        label: compared.length > 1 ? `${run.label} ${item.members[place] ?? ""}`.trim() : item.members[place] ?? item.title,
        curve: run.curve(name),
        stroke: item.names.length > 1 && compared.length === 1 ? lineColour(place, item.names.length, item.names.length > 5) : `c${number % 5}`,
        width: 1.4,
        dash: compared.length > 1 && place ? [4, 2 + place] : undefined,
      })),
    );
    const span = { low: 0, high: Math.max(...compared.map((run) => run.span.high)) };
    item.card.draw(lines, { span: view.range ?? span });
  }
}

function planOf(names) {
  const families = new Map();
  const plan = [];
  for (const each of names) {
    if (each.name === LOSS || each.name.startsWith("time/")) continue;
    const key = each.family ?? each.name;
    let entry = families.get(key);
    if (!entry) {
      entry = { title: key, layer: each.layer, unit: each.unit, meaning: each.meaning, names: [], members: [], digest: each.digest };
      families.set(key, entry);
      plan.push(entry);
    }
    entry.names.push(each.name);
    if (each.member !== undefined) entry.members.push(each.member);
  }
  const rank = (entry) => (FIRST.findIndex((word) => entry.title.startsWith(word)) + FIRST.length + 1) % (FIRST.length + 1);
  for (const entry of plan) {
    const order = entry.members.map((member, place) => [member, entry.names[place]]).sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
    if (order.length) [entry.members, entry.names] = [order.map(([member]) => member), order.map(([, name]) => name)];
  }
  return plan.sort((a, b) => rank(a) - rank(b));
}

function digestCard(each) {
  return el("figure", { class: "card chart-card", "data-name": each.title }, el("figcaption", {}, el("b", {}, each.title)), el("p", { class: "meaning soft" }, `${each.meaning}. Compared between replicas and lives, not drawn.`));
}
