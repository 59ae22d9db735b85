/* The sections under the leaderboard. Each is given the element that it fills. */
const MEAN = "mean";
const titleOf = (i) => DATA.entries[i].title;
const viewOf = (metric, group, by) =>
  DATA.views.find((one) => one.metric === metric && one.group === group && one.by === by);
const many = DATA.groups.length > 1;
const groupBox = (state, draw) => (!many ? null : select("Tasks",
  DATA.groups.map((name) => [name, name]), state.group, (name) => { state.group = name; draw(); }));
const unitOf = (metric) => {
  const {title, unit} = DATA.metrics[metric];
  return title + (unit ? ` (${unit})` : "");
};

/* What can be averaged over in the cube of a group: its tasks, its corruptions, its severities. */
function facets(group) {
  const cube = DATA.cubes[group];
  const shifted = range(cube.shifts.length).filter((i) => cube.shifts[i][1] > 0);
  const corruptions = unique(shifted.map((i) => cube.shifts[i][0]));
  const severities = unique(shifted.map((i) => cube.shifts[i][1])).sort();
  return {cube, corruptions, severities, whole: shifted.length ===
    corruptions.length * severities.length};
}
function valueAt(cube, row, task, shift) {
  const tasks = task === MEAN ? range(cube.tasks.length) : [cube.tasks.indexOf(task)];
  return mean(tasks.map((t) => cube.means[row][t][shift]));
}
const shiftAt = (cube, corruption, severity) =>
  cube.shifts.findIndex(([name, at]) => name === corruption && at === severity);
const taskBox = (cube, state, draw) => select("Task",
  [[MEAN, `mean over ${cube.tasks.length}`], ...cube.tasks.map((name) => [name, name])],
  state.task, (name) => { state.task = name; draw(); });

function severityCurves(host) {
  const state = {metric: "acc", group: DATA.groups[0], task: MEAN, corruption: MEAN};
  const bar = h("div"), about = h("div");
  const whole = () => viewOf(state.metric, state.group, "severity");

  function measured() {  /* means with their intervals, as the table by severity has them */
    const view = whole(), {scale} = DATA.metrics[state.metric];
    const by = (x) => (x === null ? null : x * scale);
    return view.lines.map((line, i) => ({line, points: view.columns.map(({name}, c) => {
      const cell = view.cells[i][c];
      return {x: Number(name), y: by(cell[VALUE]), low: by(cell[LOW]), high: by(cell[HIGH]),
        text: [cell[TEXT], cell[MARGIN]].filter(Boolean).join(" ")};
    })}));
  }
  function single() {  /* of one task or one corruption */
    const {cube, corruptions} = facets(state.group);
    const names = state.corruption === MEAN ? corruptions : [state.corruption];
    const at = unique(cube.shifts.filter(([name]) => names.includes(name)).map(([, k]) => k));
    return cube.lines.map((line, row) => ({line, points: [0, ...at.sort()].flatMap((k) => {
      const shifts = k ? names.map((name) => shiftAt(cube, name, k)) : [cube.clean];
      if (shifts.some((i) => i === null || i < 0)) return [];
      const y = 100 * mean(shifts.map((i) => valueAt(cube, row, state.task, i)));
      return [{x: k, y, text: fixed(y, 1)}];
    })}));
  }
  function lines() {
    const plain = state.task === MEAN && state.corruption === MEAN;
    const found = (plain && whole() ? measured() : single()).filter(({line}) => isShown(line));
    found.forEach((one) => one.points.forEach((p) => {
      p.tip = `${titleOf(one.line)}\n${p.x ? "severity " + p.x : "clean"}: ${p.text}`;
    }));
    return found.filter((one) => one.points.length);
  }
  const nameOf = (k) => (k ? String(k) : "clean");
  const picture = chart((width) => {
    const found = lines();
    if (!found.length) return s("svg", {width, height: 20});
    const ys = found.flatMap((one) => one.points.flatMap((p) => [p.low ?? p.y, p.high ?? p.y]));
    const xs = unique(found.flatMap((one) => one.points.map((p) => p.x))).sort();
    const limits = padded(ys, 0.04);
    return curves(width, found,
      {limits: [Math.min(...xs) - 0.08, Math.max(...xs) + 0.08], ticks: xs, names: nameOf,
        title: "severity"},
      {limits, ticks: ticks(...limits), title: unitOf(state.metric)});
  });
  const behind = numbers(() => {
    const found = lines();
    return {heads: ["Method", ...(found[0]?.points || []).map((p) => nameOf(p.x))],
      rows: found.map((one) => [titleOf(one.line), ...one.points.map((p) => p.text)])};
  });
  function settle() {
    const {cube, corruptions, whole: equal} = facets(state.group);
    const metrics = unique(DATA.views.filter((v) => v.by === "severity").map((v) => v.metric));
    const set = (name) => (value) => { state[name] = value; settle(); };
    if (!cube.tasks.includes(state.task)) state.task = MEAN;
    if (!equal && state.corruption === MEAN) state.corruption = corruptions[0];
    const own = state.metric === "acc";
    if (!own) state.task = state.corruption = MEAN;
    bar.replaceChildren(controls(
      metrics.length > 1 ? select("Metric", metrics.map((name) => [name, DATA.metrics[name].title]),
        state.metric, set("metric")) : null,
      groupBox(state, settle), own ? taskBox(cube, state, settle) : null,
      own ? select("Corruption", [...(equal ? [[MEAN, `mean over ${corruptions.length}`]] : []),
        ...corruptions.map((name) => [name, name])], state.corruption, set("corruption")) : null));
    const banded = state.task === MEAN && state.corruption === MEAN && own && whole();
    about.replaceChildren(...note(banded ? "Bands: 95 % Wilson intervals over images." :
      "Means over seeds, shown without intervals."));
    redraw();
  }
  function redraw() { picture.again(); behind.open = false; }
  if (!facets(state.group).corruptions.length) throw new Error("only clean images were measured");
  host.append(bar, ...picture.nodes, behind, about);
  settle();
  onMethods(redraw);
}

function shiftTable(host) {
  const state = {group: DATA.groups[0], task: MEAN, severity: MEAN, show: "accuracy"};
  const bar = h("div"), place = h("div");
  function row(cube, line, at) {
    const clean = cube.clean === null ? null : valueAt(cube, line, state.task, cube.clean);
    return at.map((shifts) => {
      const value = mean(shifts.map((i) => valueAt(cube, line, state.task, i)));
      return state.show === "accuracy" ? value : value - clean;
    });
  }
  function draw() {
    const {cube, corruptions, severities, whole} = facets(state.group);
    if (!cube.tasks.includes(state.task)) state.task = MEAN;
    if (!whole && state.severity === MEAN) state.severity = severities[0];
    const change = state.show !== "accuracy";
    const at = (name) => (state.severity === MEAN ? severities : [Number(state.severity)])
      .map((k) => shiftAt(cube, name, k));
    const columns = [...(cube.clean === null || change ? [] : [["clean", [cube.clean]]]),
      ...corruptions.map((name) => [name, at(name)]).filter(([, is]) => is.every((i) => i >= 0))];
    const rows = range(cube.lines.length).filter((i) => isShown(cube.lines[i]))
      .map((i) => ({name: titleOf(cube.lines[i]), values: row(cube, i, columns.map((c) => c[1]))}));
    const all = rows.flatMap((one) => one.values), low = Math.min(...all), high = Math.max(...all);
    rows.forEach((one) => {
      one.cells = one.values.map((v, c) => ({
        x: change ? Math.max(0, v / (low || -1)) : (v - low) / (high - low || 1),
        text: change ? signed(100 * v) : percent(v), value: v,
        colour: change ? "--fall" : null, tip: `${one.name}\n${columns[c][0]}`,
      }));
    });
    place.replaceChildren(heat("Methods under every shift", "",
      columns.map(([name]) => name.replaceAll("_", " ")), rows));
  }
  function settle() {
    const {cube, severities, whole} = facets(state.group);
    const set = (name) => (value) => { state[name] = value; settle(); };
    bar.replaceChildren(controls(groupBox(state, settle), taskBox(cube, state, settle),
      select("Severity", [...(whole ? [[MEAN, `mean over ${severities.join(", ")}`]] : []),
        ...severities.map((k) => [k, k])], state.severity, set("severity")),
      cube.clean === null ? null : select("Show", [["accuracy", "accuracy (%)"],
        ["change", "change from clean (points)"]], state.show, set("show"))));
    draw();
  }
  if (!facets(state.group).corruptions.length) throw new Error("only clean images were measured");
  host.append(bar, place);
  settle();
  onMethods(draw);
}

/* Accuracy in one column of the table by shift against something else that each line has. */
function against(host, xs, xAxis, options, under, text) {
  const state = {group: DATA.groups[0], x: 0, column: ""};
  const bar = h("div"), about = h("div");
  const view = () => viewOf("acc", state.group, "shift");
  const at = () => view().columns.findIndex(({name}) => name === state.column);
  function points() {
    return view().lines.map((line, i) => {
      const x = xs(state, line, i, view()), cell = view().cells[i][at()];
      return {line, x, y: 100 * cell[VALUE], text: cell[TEXT]};
    }).filter((p) => isShown(p.line) && p.x !== null);
  }
  const picture = chart((width) => {
    const found = points(), axis = xAxis(state, found);
    found.forEach((p) => {
      p.tip = `${titleOf(p.line)}\n${axis.title}: ${short(p.x)}\n${state.column}: ${p.text} %`;
    });
    const [low, high] = padded(found.length ? found.map((p) => p.y) : [0, 1]);
    about.replaceChildren(...note(...text(found)));
    return scatter(width, found, axis, {limits: [low, high], ticks: ticks(low, high),
      title: `accuracy, ${state.column} (%)`}, under(found));
  });
  const behind = numbers(() => ({heads: ["Method", xAxis(state, points()).title, state.column],
    rows: points().map((p) => [titleOf(p.line), short(p.x), p.text])}));
  const redraw = () => { picture.again(); behind.open = false; };
  function settle() {
    const names = options.columns(view());
    if (!names.includes(state.column)) state.column = names.at(options.first);
    const set = (name) => (value) => { state[name] = value; redraw(); };
    bar.replaceChildren(controls(groupBox(state, settle), options.xs.length > 1 ?
      select("Cost", options.xs.map((name, i) => [i, name]), state.x, set("x")) : null,
    select("Accuracy", names.map((name) => [name, name]), state.column, set("column"))));
    redraw();
  }
  host.append(bar, ...picture.nodes, behind, about);
  settle();
  onMethods(redraw);
}
const realColumns = (view) => view.columns.map(({name}) => name)
  .filter((name) => name !== "normalised" && name !== "retention");

function robustness(host) {
  const first = viewOf("acc", DATA.groups[0], "shift").columns;
  const shifted = (view) => realColumns(view).filter((name) => name !== "clean");
  if (first[0].name !== "clean") throw new Error("clean images were not measured");
  if (!shifted({columns: first}).length) throw new Error("only clean images were measured");
  const axis = (state, found) => {
    const limits = padded(found.length ? found.map((p) => p.x) : [0, 1]);
    return {limits, ticks: ticks(...limits), title: "accuracy, clean (%)"};
  };
  const diagonal = () => [(X, Y, box) => {
    const inside = (v, low, high) => Math.min(Math.max(v, low), high);
    const back = (map, a, b) => (pixel) => a + ((pixel - map(a)) / (map(b) - map(a))) * (b - a);
    const x = back(X, 0, 100), y = back(Y, 0, 100);
    const low = Math.max(x(box.left), y(box.bottom)), high = Math.min(x(box.right), y(box.top));
    return {node: low >= high ? s("g") : s("path", {class: "diagonal",
      d: `M${inside(X(low), box.left, box.right)} ${Y(low)}L${X(high)} ${Y(high)}`})};
  }];
  against(host, (state, line, i, view) => 100 * view.cells[i][0][VALUE], axis,
    {columns: shifted, first: -1, xs: []}, diagonal,
    () => ["The dotted line (where visible) marks no loss from clean."]);
}

function cost(host) {
  if (!DATA.costs.length) throw new Error("no costs are stored for these runs");
  const costs = DATA.costs;
  function axis(state, found) {
    const {name, unit} = costs[state.x], values = found.length ? found.map((p) => p.x) : [1];
    const low = Math.min(...values), high = Math.max(...values);
    const title = `${name.toLowerCase()} (${unit})`;
    if (low <= 0 || high / low < 12) {
      const limits = padded(values);
      if (low >= 0) limits[0] = Math.max(0, limits[0]);
      return {limits, ticks: ticks(...limits), title};
    }
    const limits = [low / 1.25, high * 1.25];
    return {limits: limits.map(Math.log10), log: true, ticks: logTicks(...limits),
      title: title + ", logarithmic"};
  }
  const front = (found) => {
    const best = [];
    for (const p of [...found].sort((a, b) => a.x - b.x || b.y - a.y)) {
      if (!best.length || p.y > best.at(-1).y) best.push(p);
    }
    return best;
  };
  const steps = (found) => [(X, Y, box) => {
    const best = front(found).map((p) => [X(p.x), Y(p.y)]);
    const d = best.map(([px, py], i) => (i ? `H${px}V${py}` : `M${px} ${py}`)).join("");
    const areas = best.flatMap(([px, py], i) => {
      const [next, above] = best[i + 1] || [box.right, py];
      return [[px, py, next, py], [next, above, next, py]];
    });
    return {node: s("path", {class: "front", d: d && d + `H${box.right}`}), areas};
  }];
  against(host, (state, line) => costs[state.x].values[line], axis,
    {columns: realColumns, first: -1, xs: costs.map((one) => one.name)}, steps,
    (found) => ["Pareto front, no method is both cheaper and more accurate than these: " +
      front(found).map((p) => titleOf(p.line)).join(", ") + ".",
    "Seconds and megabytes depend on the machine they were measured on."]);
}
