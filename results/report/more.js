/* Doubt, routing, and pictures. */
function reliability(host) {
  if (DATA.reliability.why) throw new Error(DATA.reliability.why);
  const state = {group: DATA.groups[0], column: ""};
  const bar = h("div"), place = h("div", {class: "multiples"});
  const SIDE = 150, TALL = 26;

  function diagram(line, [count, sure, right], ece) {
    const bins = count.length, wide = SIDE / bins, most = Math.max(...count);
    const svg = s("svg", {viewBox: `0 0 ${SIDE + 34} ${SIDE + TALL + 32}`, role: "img",
      "aria-label": `${titleOf(line)}: accuracy by confidence`});
    const g = s("g", {transform: "translate(30 6)"});
    svg.append(g);
    for (const share of [0, 0.5, 1]) {
      const y = SIDE * (1 - share), x = SIDE * share;
      g.append(s("line", {class: "grid", x1: 0, x2: SIDE, y1: y, y2: y}),
        s("text", {x: -6, y: y + 4, "text-anchor": "end"}, 100 * share),
        s("text", {x, y: SIDE + TALL + 20, "text-anchor": ["start", "middle", "end"][2 * share]},
          100 * share));
    }
    count.forEach((n, i) => {
      if (!n) return;
      const text = `confidence ${percent(sure[i])} %\nright ${percent(right[i])} %\n${n} images`;
      const low = Math.min(sure[i], right[i]), gap = Math.abs(sure[i] - right[i]);
      g.append(
        s("rect", {class: "bar", x: i * wide + 0.5, width: wide - 1, y: SIDE * (1 - right[i]),
          height: SIDE * right[i], "data-tip": text, "data-value": right[i], "data-count": n}),
        s("rect", {class: "gap", x: i * wide + 0.5, width: wide - 1, y: SIDE * (1 - low - gap),
          height: SIDE * gap, "data-tip": text}),
        s("rect", {class: "many", x: i * wide + 0.5, width: wide - 1, y: SIDE + 4,
          height: TALL * (n / most), "data-tip": text}));
    });
    g.append(s("path", {class: "diagonal", d: `M0 ${SIDE}L${SIDE} 0`}));
    return h("div", {}, h("h3", {}, titleOf(line)), svg,
      ece === null ? null : h("div", {class: "count"}, ece ? `ECE ${ece} %` : "no ECE"));
  }
  function draw() {
    const {bins, lines} = DATA.reliability[state.group];
    const view = viewOf("ece", state.group, "shift");
    const at = view ? view.columns.findIndex(({name}) => name === state.column) : -1;
    const ece = (line) => (at < 0 ? null : view.cells[view.lines.indexOf(line)]?.[at][TEXT]);
    place.replaceChildren(...lines.map((line, i) => [line, bins[state.column][i]])
      .filter(([line]) => isShown(line)).map(([line, found]) => diagram(line, found, ece(line))));
  }
  function settle() {
    const {columns} = DATA.reliability[state.group];
    if (!columns.includes(state.column)) state.column = columns[0];
    bar.replaceChildren(controls(groupBox(state, settle), select("Shift",
      columns.map((name) => [name, name]), state.column,
      (name) => { state.column = name; draw(); })));
    draw();
  }
  host.append(bar, h("p", {class: "keys"}, key("--heat", "accuracy (%)"),
    key("--fall", "gap to confidence"), key("--line", "images")), place,
  ...note("Confidence in %: the largest class probability of a prediction. Images of all tasks, " +
    "shifts and seeds are pooled; ECE (expected calibration error) is the mean over them, as in the tables."));
  settle();
  onMethods(draw);
}
const key = (colour, text) => h("span", {},
  h("span", {class: "key", style: `background:${colour.startsWith("--") ? `var(${colour})` :
    colour}`}), text);

function routing(host) {
  const {methods, why} = DATA.routing;
  if (!methods) throw new Error(why);
  const state = {method: 0};
  const bar = h("div"), place = h("div", {class: "panels"}), about = h("div");
  function draw() {
    const {panels, left_out: gone} = methods[state.method];
    about.replaceChildren(...note("Mean routing weight in %: rows are true tasks, columns are routes." +
      (gone ? ` ${gone} more shifts are in \`python -m bench table --metric route:TASK\`.` : "")));
    place.replaceChildren(...panels.map((panel) => h("div", {},
      h("h3", {}, panel.name),
      heat(`Routing, ${panel.name}`, "", panel.routes, panel.tasks.map((name, i) => ({
        name, cells: panel.weights[i].map((w, j) => ({x: w, value: w,
          text: w >= 0.005 ? fixed(100 * w, 0) : "",
          tip: `${name} to ${panel.routes[j]}: ${percent(w)} %`})),
      })), true))));
  }
  bar.append(controls(select("Method", methods.map((one, i) => [i, titleOf(one.line)]), 0,
    (i) => { state.method = Number(i); draw(); })));
  host.append(bar, place, about);
  draw();
  losses(host);
}
const PART = {expert: "#8a8f96", compression: "#E69F00", routing: "var(--blue)"};
function losses(host) {
  const found = DATA.routing;
  if (!found.losses) { host.append(h("p", {class: "why"}, found.why)); return; }
  const state = {column: found.columns.at(-1)};
  const place = h("div");
  function draw() {
    const c = found.columns.indexOf(state.column);
    const shown = found.losses.filter(({line}) => isShown(line));
    const most = Math.max(...shown.map(({values}) =>
      values[c].reduce((sum, v) => sum + Math.max(0, v), 0)), 1e-9);
    place.replaceChildren(h("div", {class: "parts"}, shown.flatMap(({line, values}) => [
      h("span", {}, titleOf(line)),
      h("div", {class: "stack"}, values[c].map((v, i) => h("i", {
        style: `width:${(100 * Math.max(0, v)) / most}%;background:${PART[found.parts[i]]}`,
        "data-tip": `${found.parts[i]}: ${fixed(100 * v, 1)} points`})))])));
  }
  const choose = select("Shift", found.columns.map((name) => [name, name]), state.column,
    (name) => { state.column = name; draw(); behind.open = false; });
  const behind = numbers(() => ({heads: ["Method", ...found.headers],
    rows: found.losses.filter(({line}) => isShown(line)).map(({line, texts}) =>
      [titleOf(line), ...texts[found.columns.indexOf(state.column)]])}));
  host.append(h("h3", {style: "margin-top:1.4rem"}, "Where routed methods lose accuracy"),
    controls(choose), h("p", {class: "keys"}, found.parts.map((p) => key(PART[p], p))), place,
    behind, h("details", {}, h("summary", {}, "Notes"), ...note(...found.notes)));
  draw();
  onMethods(() => { draw(); behind.open = false; });
}

function examples(host) {
  if (DATA.examples.why) throw new Error(DATA.examples.why);
  const tasks = unique(DATA.examples.map((one) => one.task));
  const shifts = unique(DATA.examples.map((one) => one.shift));
  const state = {task: tasks[0], shift: shifts[0]};
  const place = h("div", {class: "cards"});
  function card(one) {
    const lines = one.answers.filter(([line]) => isShown(line)).map(([line, name, sure]) => {
      const right = name === one.label;
      return h("li", {"data-tip": `${titleOf(line)}: ${name}, ${percent(sure)} %`},
        h("b", {class: right ? "right" : "wrong"}, right ? "\u2713" : "\u2717"),
        h("span", {}, titleOf(line)), h("span", {class: right ? "right" : "wrong"}, name),
        h("span", {class: "sure"}, fixed(100 * sure, 0)));
    });
    return h("div", {class: "card"},
      h("img", {src: one.picture, alt: `${one.task}, ${one.shift}: ${one.label}`}),
      h("div", {class: "truth"}, one.label, h("small", {}, `test image ${one.image}`)),
      h("ul", {}, lines));
  }
  function draw() {
    place.replaceChildren(...DATA.examples.filter((one) =>
      one.task === state.task && one.shift === state.shift).map(card));
  }
  const box = (label, name, values) => select(label, values.map((v) => [v, v]), state[name],
    (value) => { state[name] = value; draw(); });
  host.append(controls(box("Task", "task", tasks), box("Shift", "shift", shifts)), place,
    ...note("Test images drawn at random; each method's prediction and its " +
      "probability in %. Of several seeds, the first."));
  onMethods(draw);
}
