// What is asked of the server, and the feed that it tells.

import { decode } from "./frame.js";

const SILENT_S = 40; // the server says something at least every 15 seconds

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the server answered ${answer.status}`);
  return answer;
}

export const state = async () => (await get("/api/state")).json();
export const run = async (key) => (await get(`/api/run/${key}`)).json();

export async function curves(key, names, { low, high, columns, means }) {
  return decode(await (await get(`/api/curves?${query(key, names, { low, high, columns, means })}`)).arrayBuffer());
}

export function csvPath(key, names, range) {
  return `/api/curve.csv?${query(key, names, range ?? {})}`;
}

function query(key, names, numbers) {
  const words = new URLSearchParams({ run: key });
  for (const name of names) words.append("name", name);
  for (const [name, value] of Object.entries(numbers)) {
    if (value !== undefined && value !== null) words.set(name, String(Math.max(0, Math.round(value))));
  }
  return words;
}

const KINDS = ["rows", "names", "runs", "events", "incident", "forecast", "rewind", "trouble", "reset"];

// Calls `told(kind, data)` for each message and `linked(isLive)` when the connection comes or goes. The browser takes the
// feed up again with the id of the last message it saw.
export function follow(cursor, told, linked) {
  let source = null;
  let last = cursor;
  let heard = Date.now();
  const open = () => {
    source?.close();
    heard = Date.now();
    source = new EventSource(`/feed?after=${encodeURIComponent(last)}`);
    source.onopen = () => linked(true);
    source.onerror = () => {
      linked(false);
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, (message) => {
        heard = Date.now();
        last = message.lastEventId || last;
        told(kind, JSON.parse(message.data));
      });
    }
    source.addEventListener("alive", () => (heard = Date.now()));
  };
  open();
  setInterval(() => {
    if (Date.now() - heard > SILENT_S * 1000) {
      linked(false);
      open();
    }
  }, 5000);
  window.addEventListener("online", open);
}
