// Which view is shown: it stands in the address, so that a link leads to it again.

export const view = { run: null, others: [], range: null, log: false, tall: false, incident: null };
const listeners = [];

export function onView(listener) {
  listeners.push(listener);
}

export function setView(changes) {
  Object.assign(view, changes);
  const words = new URLSearchParams();
  if (view.run) words.set("run", view.run);
  if (view.others.length) words.set("with", view.others.join(","));
  if (view.range) words.set("steps", `${Math.round(view.range.low)}-${Math.round(view.range.high)}`);
  if (view.log) words.set("log", "1");
  if (view.tall) words.set("tall", "1");
  if (view.incident !== null) words.set("incident", view.incident);
  history.replaceState(null, "", `#${words}`);
  for (const listener of listeners) listener(changes);
}

export function readView() {
  const words = new URLSearchParams(location.hash.slice(1));
  const range = /^(\d+)-(\d+)$/.exec(words.get("steps") ?? "");
  return {
    run: words.get("run"),
    others: (words.get("with") ?? "").split(",").filter(Boolean),
    range: range ? { low: Number(range[1]), high: Math.max(Number(range[2]), Number(range[1]) + 1) } : null,
    log: words.get("log") === "1",
    tall: words.get("tall") === "1",
    incident: words.has("incident") ? Number(words.get("incident")) : null,
  };
}
