/* Charts as SVG, drawn for the width that there is. */
const WIDE = 640;

function chart(draw) {
  const host = h("div", {class: "chart"});
  const legend = h("div", {class: "legend", "aria-hidden": "true"});
  let width = 0;
  const again = () => {
    if (!width) return;
    const svg = draw(width);
    host.replaceChildren(svg);
    legend.replaceChildren(...(width < WIDE ? svg.lines : svg.unnamed || []).map((i) =>
      h("span", {}, glyph(DATA.entries[i]), DATA.entries[i].title)));
  };
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now && now !== width) { width = now; again(); }
  }).observe(host);
  return {nodes: [host, legend], again};
}

/* Round numbers that cover low to high. */
function ticks(low, high, most = 6) {
  const raw = (high - low || 1) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((one) => one >= raw);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return range(last - first + 1).map((i) => Number(((first + i) * step).toPrecision(12)));
}
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const m of [1, 2, 5]) found.push(m * 10 ** power);
  }
  const inside = found.filter((x) => x >= low * 0.999 && x <= high * 1.001);
  const tens = inside.filter((x) => Math.abs(Math.log10(x) % 1) < 1e-9);
  return inside.length <= 8 || tens.length < 2 ? inside : tens;
}
function padded(values, share = 0.06) {
  const low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low || Math.abs(high) || 1) * share;
  return [low - pad, high + pad];
}

/* An empty plot: x and y are {limits, ticks, title, log, names}. */
function plot(width, height, x, y, right) {
  const box = {left: 46, top: 10, right: width - right, bottom: height - 42};
  const at = (axis, from, to) => (value) => {
    const f = axis.log ? Math.log10 : (v) => v, [low, high] = axis.limits;
    return from + ((f(value) - f(low)) / (f(high) - f(low) || 1)) * (to - from);
  };
  const X = at(x, box.left, box.right), Y = at(y, box.bottom, box.top);
  const svg = s("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img"});
  for (const value of y.ticks) {
    svg.append(s("line", {class: "grid", x1: box.left, x2: box.right, y1: Y(value), y2: Y(value)}),
      s("text", {x: box.left - 8, y: Y(value) + 4, "text-anchor": "end"}, short(value)));
  }
  const room = (box.right - box.left) / 42;
  const every = Math.ceil(x.ticks.length / room);
  x.ticks.filter((_, i) => i % every === 0).forEach((value) => {
    const name = x.names ? x.names(value) : short(value);
    svg.append(s("text", {x: X(value), y: box.bottom + 18, "text-anchor": "middle"}, name));
  });
  svg.append(s("text", {x: (box.left + box.right) / 2, y: height - 5, "text-anchor": "middle"},
    x.title));
  if (y.title) {
    svg.append(s("text", {transform: `translate(11 ${(box.top + box.bottom) / 2}) rotate(-90)`,
      "text-anchor": "middle"}, y.title));
  }
  return {svg, X, Y, box};
}
function focusOn(svg, group) {
  group.addEventListener("pointerenter", () => {
    svg.classList.add("focused"); group.classList.add("on");
  });
  group.addEventListener("pointerleave", () => {
    svg.classList.remove("focused"); group.classList.remove("on");
  });
}

/* Middles of things so tall that none covers another: one sweep up, one down, and the middle of
   both; then all are moved in between low and high, where there is room for them. */
function apart(places, tall, low, high) {
  const order = range(places.length).sort((a, b) => places[a] - places[b]), n = order.length;
  const gap = (i) => (tall[order[i]] + tall[order[i - 1]]) / 2;
  const sweepUp = (at) => {
    for (let i = 1; i < n; i++) at[i] = Math.max(at[i], at[i - 1] + gap(i));
    return at;
  };
  const sweepDown = (at) => {
    for (let i = n - 1; i > 0; i--) at[i - 1] = Math.min(at[i - 1], at[i] - gap(i));
    return at;
  };
  const wanted = order.map((i) => places[i]), down = sweepDown([...wanted]);
  const at = sweepUp([...wanted]).map((place, i) => (place + down[i]) / 2);
  if (n) {
    at[0] = Math.max(at[0], low + tall[order[0]] / 2);
    at[n - 1] = Math.min(sweepUp(at)[n - 1], high - tall[order[n - 1]] / 2);
  }
  const found = [];
  sweepDown(at).forEach((place, i) => { found[order[i]] = place; });
  return found;
}

/* Names: as wide as they are, in lines that are no wider than there is room. */
const LINE = 14;
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const wide = (text) => ruler.measureText(text).width;
function broken(text, room) {
  const lines = [""];
  const put = (piece) => {
    const longer = lines.at(-1) + piece;
    if (!lines.at(-1) || wide(longer) <= room) lines[lines.length - 1] = longer;
    else lines.push(piece.trimStart());
  };
  for (const word of text.split(/(?= )/)) {
    if (wide(word) <= room) put(word);
    else for (const letter of word) put(letter);
  }
  return lines;
}
/* Lines around the height y. */
const named = (lines, x, y, anchor) =>
  s("text", {class: "label", y: y + 4 - ((lines.length - 1) * LINE) / 2, "text-anchor": anchor},
    lines.map((line, i) => s("tspan", {x, dy: i ? LINE : 0}, line)));

/* lines: {line, points: [{x, y, low, high, tip}]} */
function curves(width, lines, x, y) {
  const roomy = width >= WIDE;
  const names = roomy ? lines.map((one) => broken(DATA.entries[one.line].title, 0.26 * width)) : [];
  const right = roomy ? 30 + Math.ceil(Math.max(0, ...names.flat().map(wide))) : 14;
  const tall = names.map((name) => LINE * name.length + 3);
  const height = Math.max(roomy ? 380 : 280, 60 + tall.reduce((sum, one) => sum + one, 0));
  const {svg, X, Y, box} = plot(width, height, x, y, right);
  svg.lines = lines.map((one) => one.line);
  svg.setAttribute("aria-label", `${y.title} against ${x.title}; the numbers are below`);
  const ends = roomy ?
    apart(lines.map((one) => Y(one.points.at(-1).y)), tall, 0, height - 20) : [];
  lines.forEach((one, i) => {
    const entry = DATA.entries[one.line], colour = colourOf(entry), points = one.points;
    const group = s("g", {class: "line"});
    if (points.every((p) => p.low != null)) {
      const upper = points.map((p) => `${X(p.x)} ${Y(p.high)}`);
      const lower = points.map((p) => `${X(p.x)} ${Y(p.low)}`).reverse();
      group.append(s("path", {d: "M" + [...upper, ...lower].join("L") + "Z", fill: colour,
        opacity: 0.1}));
    }
    group.append(s("path", {d: "M" + points.map((p) => `${X(p.x)} ${Y(p.y)}`).join("L"),
      stroke: colour, fill: "none", "stroke-width": 1.7, "stroke-dasharray": DASHES[entry.dash]}));
    points.forEach((p) => group.append(marker(entry, X(p.x), Y(p.y), 4.2,
      {"data-tip": p.tip, "data-value": p.y})));
    if (roomy) {
      const from = X(points.at(-1).x) + 6, to = box.right + 14;
      group.append(
        s("path", {class: "hair", stroke: colour,
          d: `M${from} ${Y(points.at(-1).y)}L${to - 4} ${ends[i]}`}),
        marker(entry, to + 3, ends[i], 4),
        named(names[i], to + 11, ends[i], "start"));
    }
    focusOn(svg, group);
    svg.append(group);
  });
  return svg;
}

/* points: {line, x, y, tip}; names where there is room for them, and nothing under them */
function scatter(width, points, x, y, under = []) {
  const roomy = width >= WIDE, height = roomy ? 420 : 300;
  const {svg, X, Y, box} = plot(width, height, x, y, roomy ? 130 : 14);
  svg.lines = points.map((p) => p.line);
  svg.unnamed = [];
  svg.setAttribute("aria-label", `${y.title} against ${x.title}; the numbers are below`);
  const taken = points.map((p) => [X(p.x) - 6, Y(p.y) - 6, X(p.x) + 6, Y(p.y) + 6]);
  under.forEach((draw) => {
    const {node, areas = []} = draw(X, Y, box);
    svg.append(node);
    taken.push(...areas);
  });
  const free = (a) => a[0] > box.left && a[2] < width && a[1] > 0 && a[3] < box.bottom &&
    taken.every((b) => a[2] < b[0] || a[0] > b[2] || a[3] < b[1] || a[1] > b[3]);
  points.forEach((p) => {
    const entry = DATA.entries[p.line], cx = X(p.x), cy = Y(p.y);
    const group = s("g", {class: "line"});
    const lines = broken(entry.title, 190), long = Math.max(...lines.map(wide));
    const half = (LINE * lines.length) / 2, off = half + 7;
    const spots = [[9, 0, "start"], [-9, 0, "end"], [0, -off, "middle"], [0, off, "middle"],
      [8, -off + 2, "start"], [8, off - 2, "start"], [-8, -off + 2, "end"], [-8, off - 2, "end"]];
    const spot = !roomy ? null : spots.map(([dx, dy, anchor]) => {
      const left = cx + dx - (anchor === "end" ? long : anchor === "middle" ? long / 2 : 0);
      return {dx, dy, anchor, area: [left, cy + dy - half, left + long, cy + dy + half]};
    }).find(({area}) => free(area));
    if (spot) {
      taken.push(spot.area);
      group.append(named(lines, cx + spot.dx, cy + spot.dy, spot.anchor));
    } else svg.unnamed.push(p.line);
    group.append(marker(entry, cx, cy, 5.5, {"data-tip": p.tip, "data-x": p.x, "data-y": p.y}));
    focusOn(svg, group);
    svg.append(group);
  });
  return svg;
}
