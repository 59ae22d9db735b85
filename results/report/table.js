/* The leaderboard, tables of coloured fields, and the numbers behind a chart. */
const [VALUE, LOW, HIGH, TEXT, MARGIN, SPREAD, DROP, RANK] = range(8);
const RANKED = ["", "best"];

function leaderboard(host) {
  const metrics = unique(DATA.views.map((view) => view.metric));
  const state = {metric: metrics[0], name: "", details: true, column: null, down: true};
  const place = h("div"), about = h("div"), viewBox = h("span");
  let rows = [];
  const choices = () => DATA.views.filter((view) => view.metric === state.metric);
  const view = () => choices().find((one) => one.name === state.name) || choices()[0];

  function compare(a, b) {
    if (state.column === null) return a.at - b.at;
    const one = state.column < 0 ? a.title : a.cells[state.column][VALUE];
    const other = state.column < 0 ? b.title : b.cells[state.column][VALUE];
    if (one === null || other === null) return (one === null) - (other === null);
    const order = state.column < 0 ? one.localeCompare(other) : one - other;
    return (state.down ? -order : order) || a.at - b.at;
  }
  function order() {
    const body = place.querySelector("tbody");
    body.replaceChildren(...rows.filter((row) => isShown(row.line)).sort(compare)
      .map((row) => row.node));
    place.querySelectorAll("thead th").forEach((head, i) => {
      const sorted = state.column !== null && i - 1 === state.column;
      head.setAttribute("aria-sort",
        sorted ? (state.down ? "descending" : "ascending") : "none");
    });
  }
  /* Best first, then worst first, then the order that the table came in. */
  function sortBy(column) {
    const higher = DATA.metrics[state.metric].higher;
    const summary = column >= view().columns.length - summaries(view());
    const first = column < 0 || view().by === "ranks" ? false : summary || higher !== false;
    if (state.column !== column) { state.column = column; state.down = first; }
    else if (state.down === first) state.down = !first;
    else state.column = null;
    order();
  }
  const summaries = (one) =>
    one.columns.filter(({name}) => ["normalised", "retention", "recovered"].includes(name)).length;
  function line(one, i) {
    const cells = one.cells[i];
    const small = (text) => (state.details && text ? h("small", {}, text) : null);
    const node = h("tr", {class: DATA.entries[one.lines[i]].reference ? "reference" : null},
      h("th", {scope: "row"}, one.titles[i]),
      cells.map((cell) => h("td", {"data-value": cell[VALUE]},
        h("span", {class: RANKED[cell[RANK]] || null}, cell[TEXT]),
        small([cell[MARGIN], cell[SPREAD]].filter(Boolean).join(" ")), small(cell[DROP]))));
    return {at: i, line: one.lines[i], title: one.titles[i], cells, node};
  }
  function draw() {
    const one = view(), heads = ["Method", ...one.columns.map((column) => column.header)];
    rows = one.lines.map((_, i) => line(one, i));
    const head = heads.map((text, i) => h("th", {scope: "col", "aria-sort": "none"},
      h("button", {type: "button", click: () => sortBy(i - 1)}, text)));
    place.replaceChildren(scroll("Leaderboard",
      h("table", {class: "board"}, h("thead", {}, h("tr", {}, head)), h("tbody"))));
    about.replaceChildren(...note(...one.notes));
    order();
  }
  function fillViews() {
    const names = choices().map((one) => [one.name, one.name]);
    if (!names.some(([name]) => name === state.name)) state.name = names[0][0];
    viewBox.replaceChildren(select("Columns", names, state.name, (name) => {
      state.name = name; state.column = null; draw();
    }));
  }
  const metricBox = select("Metric", metrics.map((name) => [name, DATA.metrics[name].title]),
    state.metric, (name) => { state.metric = name; state.column = null; fillViews(); draw(); });
  const details = check("intervals and drops", true, (on) => { state.details = on; draw(); });
  host.append(controls(metricBox, viewBox, details), place, about);
  fillViews();
  draw();
  onMethods(order);
}

/* rows: {name, cells: [{x in 0..1, text, tip, colour}]}; columns: names */
function heat(label, corner, columns, rows, small = false) {
  const name = (text) => (small ? h("span", {class: "upright"}, text) : text);
  return scroll(label, h("table", {class: small ? "heat small" : "heat"},
    h("thead", {}, h("tr", {}, h("th", {scope: "col"}, corner),
      columns.map((column) => h("th", {scope: "col"}, name(column))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", {scope: "row"}, row.name),
      row.cells.map((cell) => h("td", {
        style: `--x:${cell.x.toFixed(3)}` + (cell.colour ? `;--colour:var(${cell.colour})` : ""),
        "data-tip": cell.tip, "data-value": cell.value,
      }, cell.text)))))));
}

/* The same numbers as a table, made when it is opened. */
function numbers(make) {
  const box = h("details", {toggle: () => {
    if (!box.open) { if (box.lastChild !== box.firstChild) box.lastChild.remove(); return; }
    const {heads, rows} = make();
    box.append(scroll("Numbers", h("table", {},
      h("thead", {}, h("tr", {}, heads.map((text) => h("th", {scope: "col"}, text)))),
      h("tbody", {}, rows.map(([first, ...rest]) =>
        h("tr", {}, h("th", {scope: "row"}, first), rest.map((text) => h("td", {}, text))))))));
  }}, h("summary", {}, "Numbers"));
  return box;
}
