// A card with a chart: its title, what it shows at the cursor, and its curves as PNG or CSV.

import { csvPath } from "./api.js";
import { Chart } from "./chart.js";
import { el, save, short } from "./format.js";
import { view } from "./view.js";

export class Card {
  constructor({ title, unit, meaning, height = 150, onReadout }) {
    this.title = title;
    this.value = el("span", { class: "value" });
    this.plotted = el("div", { class: "plot", role: "img", tabindex: "0", "aria-label": title });
    this.tools = el("span", { class: "tools" });
    this.element = el(
      "figure",
      { class: "card chart-card", "data-name": title },
      el("figcaption", { title: meaning ?? "" }, el("b", {}, title), unit ? el("span", { class: "soft" }, ` ${unit}`) : null, this.value, this.tools),
      this.plotted,
    );
    this.chart = new Chart(this.plotted, { height, label: title, onReadout: onReadout ?? ((at) => this.say(at)) });
  }

  offer(run, names) {
    if (this.offered) return;
    this.offered = true;
    const file = this.title.replace(/[^\w-]+/g, "-");
    this.tools.append(
      el("button", { class: "tool", "aria-label": `${this.title} as PNG`, onclick: async () => save(`${file}.png`, await this.chart.picture()) }, "PNG"),
      el("button", { class: "tool", "aria-label": `${this.title} as CSV`, onclick: () => el("a", { href: csvPath(run.key, names, view.range), download: `${file}.csv` }).click() }, "CSV"),
    );
  }

  // The value under the cursor, else the latest.
  say(at) {
    const shown = at ? at.values : this.chart.lines.filter((line) => !line.means).map((line) => [line.label, line.curve.latest]);
    const said = shown.length === 1 ? short(shown[0][1]) : shown.slice(0, 3).map(([label, value]) => `${label} ${short(value)}`).join(" · ") + (shown.length > 3 ? " …" : "");
    this.value.textContent = at ? `${said} at ${at.step.toLocaleString("en-US")}` : said;
  }

  draw(lines, extra) {
    this.chart.draw(lines, extra);
    this.say(null);
  }

  destroy() {
    this.chart.destroy();
    this.element.remove();
  }
}
