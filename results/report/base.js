"use strict";
/* Elements, numbers, which methods are shown. Texts become text nodes: nothing is read as HTML. */
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function made(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}
const h = (tag, attributes = {}, ...children) =>
  made(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) =>
  made(document.createElementNS(SVG, tag), attributes, children);
const $ = (id) => document.getElementById(id);

/* As Python prints it: half to even where x lies exactly between two numbers. */
function fixed(x, decimals) {
  const twice = Math.abs(x) * 2 ** (decimals + 1);
  const text = x.toFixed(decimals);
  const tie = Number.isInteger(twice) && twice % 2 === 1;
  if (tie && Number(text.at(-1)) % 2) {
    const step = 10 ** -decimals * Math.sign(x);
    return (Number(text) - step).toFixed(decimals);
  }
  return Number(text) === 0 ? text.replace("-", "") : text;
}
const percent = (share) => (share == null ? "-" : fixed(100 * share, 1));
const signed = (x) => (Number(fixed(x, 1)) > 0 ? "+" : "") + fixed(x, 1);
const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;
const unique = (values) => [...new Set(values)];
const range = (count) => Array.from({length: count}, (_, i) => i);
const short = (x) =>
  x === 0 ? "0" : Math.abs(x) >= 100 ? fixed(x, 0) : String(Number(x.toPrecision(3)));

/* Which methods are shown: everything that depends on it is drawn again when it changes. */
const off = new Set();
const wanted = {text: "", plain: false};
const dependents = [];
function fits(i) {
  const entry = DATA.entries[i];
  const text = (entry.title + " " + entry.key + " " + entry.allowance).toLowerCase();
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => text.includes(word)) && !(wanted.plain && entry.allowance);
}
const isShown = (i) => !off.has(i) && fits(i);
function onMethods(draw) { dependents.push(draw); draw(); }
function methodsChanged() { for (const draw of dependents) draw(); }

/* How a method is drawn; colours that a dark page would swallow follow the theme. */
const THEMED = {"#000000": "var(--reference)", "#666666": "var(--floor)",
  "#0072B2": "var(--blue)"};
const colourOf = (entry) => THEMED[entry.colour] || entry.colour;
const DASHES = {"-": null, "--": "7 4", ":": "1.5 3.5", "-.": "7 3 1.5 3"};
function ring(count, {inner = 1, turn = 0, size = 1} = {}) {
  return range(count).map((i) => {
    const angle = turn + (2 * Math.PI * i) / count - Math.PI / 2;
    const radius = size * (i % 2 ? inner : 1);
    return (radius * Math.cos(angle)).toFixed(3) + " " + (radius * Math.sin(angle)).toFixed(3);
  }).join("L");
}
const triangle = (turn) => ring(3, {turn, size: 1.3});
const SHAPES = {  /* of areas that look alike */
  o: "0 -1A1 1 0 1 1 0 1A1 1 0 1 1 0 -1",
  s: ring(4, {turn: Math.PI / 4}), D: ring(4), d: "0 -1.2L.8 0L0 1.2L-.8 0",
  "^": triangle(0), v: triangle(Math.PI), "<": triangle(-Math.PI / 2), ">": triangle(Math.PI / 2),
  "*": ring(10, {inner: 0.42, size: 1.4}), p: ring(5), h: ring(6),
  P: "-.35 -1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35",
  X: "-1 -.6L-.6 -1L0 -.4L.6 -1L1 -.6L.4 0L1 .6L.6 1L0 .4L-.6 1L-1 .6L-.4 0",
};
function marker(entry, x, y, size = 5, extra = {}) {
  const d = "M" + (SHAPES[entry.marker] || SHAPES.o) + "Z";
  return s("path", {
    class: "mark", d, fill: colourOf(entry), "vector-effect": "non-scaling-stroke",
    transform: `translate(${x} ${y}) scale(${size})`, ...extra,
  });
}
function glyph(entry) {
  return s("svg", {width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true"},
    marker(entry, 0, 0, 4.6));
}

/* Things to choose from. */
function select(label, options, chosen, change) {
  const box = h("select", {change: () => change(box.value)},
    options.map(([value, text]) => h("option", {value, selected: value === chosen}, text)));
  return h("label", {}, label, box);
}
function check(label, checked, change) {
  const box = h("input", {type: "checkbox", checked, change: () => change(box.checked)});
  return h("label", {}, box, label);
}
const controls = (...parts) => h("div", {class: "controls"}, ...parts);
const note = (...lines) => lines.map((line) => h("p", {class: "note"}, line));
const scroll = (label, child) =>
  h("div", {class: "scroll", role: "region", "aria-label": label, tabindex: 0}, child);

/* One tooltip for everything that has data-tip. */
function tip(target) {
  const box = $("tip");
  const from = target && target.closest ? target.closest("[data-tip]") : null;
  box.hidden = !from;
  if (!from) return;
  box.textContent = from.getAttribute("data-tip");
  const at = from.getBoundingClientRect(), own = box.getBoundingClientRect();
  const left = Math.min(Math.max(4, at.x + at.width / 2 - own.width / 2),
    document.documentElement.clientWidth - own.width - 4);
  const above = at.y - own.height - 8;
  box.style.left = left + "px";
  box.style.top = (above < 4 ? at.bottom + 8 : above) + "px";
}
document.addEventListener("pointerover", (event) => tip(event.target));
document.addEventListener("focusin", (event) => tip(event.target));
document.addEventListener("scroll", () => tip(null), {passive: true});
