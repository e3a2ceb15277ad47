// Numbers and times as text, and elements: the words of tenfold.core.text, for the page.

export function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  for (const [unit, scale] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (size >= scale) return trimmed(value / scale) + unit;
  }
  return size >= 1e-3 || value === 0 ? trimmed(value) : value.toExponential(1);
}

function trimmed(value) {
  return String(Number(value.toPrecision(4)));
}

export function whole(value) {
  return Math.round(value).toLocaleString("en-US");
}

export function percent(share) {
  return `${(100 * share).toPrecision(3)}%`;
}

export function duration(seconds) {
  const rest = Math.round(seconds);
  for (const [unit, smaller, size, small] of [["d", "h", 86400, 3600], ["h", "m", 3600, 60], ["m", "s", 60, 1]]) {
    if (rest >= size) return `${Math.floor(rest / size)}${unit}${String(Math.floor((rest % size) / small)).padStart(2, "0")}${smaller}`;
  }
  return `${rest}s`;
}

export function moment(at) {
  return new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
}

export function clock(at) {
  return new Date(at * 1000).toISOString().slice(11, 16);
}

// An element with attributes and children; text is never read as markup.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function fill(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
