// Which runs are shown: one that everything is about, others beside it; and in what their configurations differ.

import { el, fill } from "./format.js";
import { setView, view } from "./view.js";

const MOST_OTHERS = 4; // the house has five colours
const MOST_LISTED = 200;

export class RunsPanel {
  constructor(section) {
    this.select = section.querySelector("select");
    this.list = section.querySelector(".others");
    this.difference = document.querySelector("#difference");
    this.select.addEventListener("change", () => setView({ run: this.select.value, others: view.others.filter((key) => key !== this.select.value), range: null, incident: null }));
  }

  // `campaigns` as /api/state has them.
  list_(campaigns) {
    const runs = campaigns.flatMap((campaign) => [...campaign.runs].reverse()).slice(0, MOST_LISTED);
    fill(this.select, ...runs.map((run) => el("option", { value: run.key, selected: run.key === view.run }, nameOf(run))));
    fill(this.list, ...runs.filter((run) => run.key !== view.run).map((run) => this.choice(run)));
    this.list.closest("details").hidden = runs.length < 2;
  }

  choice(run) {
    const chosen = view.others.includes(run.key);
    const box = el("input", {
      type: "checkbox",
      checked: chosen,
      disabled: !chosen && view.others.length >= MOST_OTHERS,
      onchange: () => setView({ others: box.checked ? [...view.others, run.key] : view.others.filter((key) => key !== run.key) }),
    });
    return el("label", {}, box, ` ${nameOf(run)}`);
  }

  tell(run, others) {
    const flat = [run, ...others].map((each) => flatten(each.config));
    const keys = [...new Set(flat.flatMap((each) => Object.keys(each)))].filter((key) => new Set(flat.map((each) => each[key])).size > 1);
    this.difference.hidden = !others.length;
    fill(
      this.difference,
      el("h3", {}, "What differs"),
      keys.length
        ? el("table", {}, el("tr", {}, ...["setting", run.label, ...others.map((each) => each.label)].map((name) => el("th", { scope: "col" }, name))), ...keys.map((key) => el("tr", {}, el("td", {}, el("code", {}, key)), ...flat.map((each) => el("td", {}, each[key] ?? "–")))))
        : el("p", { class: "soft" }, "Nothing in the configuration."),
    );
  }
}

export function nameOf(run) {
  return `${run.where} · ${run.name} · ${run.kind} ${run.id} · ${run.status}`;
}

function flatten(values, prefix = "") {
  const found = {};
  for (const [key, value] of Object.entries(values ?? {})) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) Object.assign(found, flatten(value, `${prefix}${key}.`));
    else found[prefix + key] = JSON.stringify(value);
  }
  return found;
}
