// The head of the page: how far the run is, whether the loss lies where it was forecast, how fast it is.

import { duration, el, fill, percent, short, whole } from "./format.js";
import { LOSS, sideOf } from "./loss.js";

export const NEEDED = [LOSS, "train/tokens_per_second", "train/mfu"];
const SIDES = { inside: ["inside its forecast", "ok"], above: ["above its forecast", "bad"], below: ["below its forecast", "ok"] };

export function drawSummary(parent, run) {
  const tiles = [lossTile(run), forecastTile(run), progressTile(run), speedTile(run), goodputTile(run), incidentTile(run)];
  fill(parent, ...tiles.filter(Boolean).map(([name, big, small, kind]) => el("div", { class: "card tile" }, el("h3", {}, name), el("div", { class: `big ${kind ?? ""}` }, big), el("p", { class: "soft" }, small))));
}

function lossTile(run) {
  const means = run.whole.get(LOSS)?.means;
  const value = means?.values.length ? means.values.at(-1) : run.whole.get(LOSS)?.latest;
  const [said, kind] = SIDES[sideOf(run)] ?? ["nats per token, mean of the last steps", ""];
  return ["Loss", short(value ?? null), said, kind];
}

function forecastTile(run) {
  const quantity = run.forecast?.quantities.find((each) => each.name.endsWith("training loss")) ?? run.forecast?.quantities[0];
  if (!quantity) return null;
  const [low, high] = quantity.intervals["0.8"] ?? Object.values(quantity.intervals)[0];
  const outcome = quantity.outcome === null ? "" : ` · came ${short(quantity.outcome)}`;
  return ["Forecast at the end", short(quantity.median), `80%: ${short(low)}–${short(high)}${outcome}`];
}

function progressTile(run) {
  const elapsed = (run.finished_at ?? Date.now() / 1000) - run.started_at;
  const left = run.isLive && run.steps && run.last > 0 ? (elapsed / run.last) * (run.steps - run.last) : null;
  const share = run.steps ? ` of ${whole(run.steps)}` : "";
  const when = left === null ? `${run.status} after ${duration(elapsed)}` : `about ${duration(Math.max(left, 0))} left`;
  return ["Step", whole(Math.max(run.last, 0)), `${share ? `${percent(Math.min(run.last / run.steps, 1))}${share} · ` : ""}${when}`];
}

function speedTile(run) {
  const rate = run.whole.get("train/tokens_per_second")?.latest ?? null;
  const mfu = run.whole.get("train/mfu")?.latest ?? null;
  return rate === null ? null : ["Tokens per second", short(rate), mfu === null ? "" : `MFU ${percent(mfu)}`];
}

function goodputTile(run) {
  return run.goodput === null ? null : ["Goodput", percent(run.goodput), "of the time went into steps that count"];
}

function incidentTile(run) {
  const open = run.incidents.filter((incident) => incident.state !== "closed");
  const worst = open.some((incident) => incident.severity === "critical") ? "bad" : open.length ? "warn" : "ok";
  return ["Open incidents", whole(open.length), `${run.incidents.length} in all · ${run.events.filter((event) => event.mark === "restart").length} restarts`, worst];
}
