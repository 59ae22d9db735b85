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

/* Keep places at least gap apart: one sweep up, one down, and the middle of both. */
function apart(places, gap) {
  const order = range(places.length).sort((a, b) => places[a] - places[b]);
  const up = order.map((i) => places[i]), down = [...up], n = up.length;
  for (let i = 1; i < n; i++) {
    up[i] = Math.max(up[i], up[i - 1] + gap);
    down[n - 1 - i] = Math.min(down[n - 1 - i], down[n - i] - gap);
  }
  const found = [];
  order.forEach((i, place) => { found[i] = (up[place] + down[place]) / 2; });
  return found;
}
const clipped = (text, most) => (text.length > most ? text.slice(0, most - 1) + "\u2026" : text);

/* lines: {line, points: [{x, y, low, high, tip}]} */
function curves(width, lines, x, y) {
  const wide = width >= WIDE, right = wide ? 190 : 14;
  const height = Math.max(wide ? 380 : 280, 70 + 17 * (wide ? lines.length : 0));
  const {svg, X, Y, box} = plot(width, height, x, y, right);
  svg.lines = lines.map((one) => one.line);
  svg.setAttribute("aria-label", `${y.title} against ${x.title}; the numbers are below`);
  const ends = apart(lines.map((one) => Y(one.points.at(-1).y)), 16);
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
    if (wide) {
      const from = X(points.at(-1).x) + 6, to = box.right + 14;
      group.append(
        s("path", {class: "hair", stroke: colour,
          d: `M${from} ${Y(points.at(-1).y)}L${to - 4} ${ends[i]}`}),
        marker(entry, to + 3, ends[i], 4),
        s("text", {class: "label", x: to + 11, y: ends[i] + 4}, clipped(entry.title, 27)));
    }
    focusOn(svg, group);
    svg.append(group);
  });
  return svg;
}

/* points: {line, x, y, tip}; names where there is room for them */
function scatter(width, points, x, y, under = []) {
  const wide = width >= WIDE, height = wide ? 420 : 300;
  const {svg, X, Y, box} = plot(width, height, x, y, wide ? 130 : 14);
  svg.lines = points.map((p) => p.line);
  svg.unnamed = [];
  svg.setAttribute("aria-label", `${y.title} against ${x.title}; the numbers are below`);
  under.forEach((draw) => svg.append(draw(X, Y, box)));
  const taken = points.map((p) => [X(p.x) - 6, Y(p.y) - 6, X(p.x) + 6, Y(p.y) + 6]);
  const free = (a) => a[2] < width && a[1] > 0 &&
    taken.every((b) => a[2] < b[0] || a[0] > b[2] || a[3] < b[1] || a[1] > b[3]);
  points.forEach((p) => {
    const entry = DATA.entries[p.line], cx = X(p.x), cy = Y(p.y);
    const group = s("g", {class: "line"});
    const text = clipped(entry.title, 27), long = 6.6 * text.length;
    const spots = [[9, 4, "start"], [-9, 4, "end"], [0, -10, "middle"], [0, 19, "middle"],
      [8, -9, "start"], [8, 17, "start"], [-8, -9, "end"], [-8, 17, "end"]];
    const spot = !wide ? null : spots.map(([dx, dy, anchor]) => {
      const left = cx + dx - (anchor === "end" ? long : anchor === "middle" ? long / 2 : 0);
      return {dx, dy, anchor, area: [left, cy + dy - 11, left + long, cy + dy + 3]};
    }).find(({area}) => free(area) && area[0] > box.left);
    if (spot) {
      taken.push(spot.area);
      group.append(s("text", {class: "label", x: cx + spot.dx, y: cy + spot.dy,
        "text-anchor": spot.anchor}, text));
    } else svg.unnamed.push(p.line);
    group.append(marker(entry, cx, cy, 5.5, {"data-tip": p.tip, "data-x": p.x, "data-y": p.y}));
    focusOn(svg, group);
    svg.append(group);
  });
  return svg;
}
