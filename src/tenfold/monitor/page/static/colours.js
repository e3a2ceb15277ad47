// The house's colours, as the canvas wants them: from the variables of style.css, light or dark.

const dark = matchMedia("(prefers-color-scheme: dark)");
let known = {};

export function colour(name) {
  known[name] ??= getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return known[name];
}

// Colour `number` of `count` lines: the house's five, or from blue to orange where there are more or they have an order.
export function lineColour(number, count, ordered = false) {
  if (!ordered && count <= 5) return colour(`c${number}`);
  return mixed(colour("c0"), colour("c1"), number / Math.max(count - 1, 1));
}

export function mixed(from, to, share) {
  const [a, b] = [parts(from), parts(to)];
  return `rgb(${a.map((value, place) => Math.round(value + share * (b[place] - value))).join(",")})`;
}

export function faded(name, opacity) {
  return `rgba(${parts(colour(name)).join(",")},${opacity})`;
}

function parts(hex) {
  const digits = hex.length === 4 ? [...hex.slice(1)].map((digit) => digit + digit).join("") : hex.slice(1);
  return [0, 2, 4].map((place) => parseInt(digits.slice(place, place + 2), 16));
}

export function onTheme(listener) {
  dark.addEventListener("change", () => {
    known = {};
    listener();
  });
}
