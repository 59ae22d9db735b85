/* The theme, the choice of methods, and every section; one that cannot be drawn says why. */
const THEME = "mergeshift-theme";
const kept = {
  get: () => { try { return localStorage.getItem(THEME); } catch { return null; } },
  set: (value) => { try { localStorage.setItem(THEME, value); } catch { /* not kept then */ } },
};
function theme(value) {
  if (value === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = value;
}
$("theme").value = kept.get() || "auto";
if ($("theme").selectedIndex < 0) $("theme").value = "auto";
theme($("theme").value);
$("theme").addEventListener("change", () => { theme($("theme").value); kept.set($("theme").value); });

function methodChoice() {
  const search = h("input", {type: "search", input: () => {
    wanted.text = search.value; methodsChanged();
  }});
  const all = (on) => () => {
    off.clear();
    if (!on) DATA.entries.forEach((_, i) => off.add(i));
    methodsChanged();
  };
  $("filter").append(h("label", {}, "Filter methods", search),
    check("only methods that use no data and store one model", false,
      (on) => { wanted.plain = on; methodsChanged(); }),
    h("button", {type: "button", class: "plain", click: all(true)}, "all"),
    h("button", {type: "button", class: "plain", click: all(false)}, "none"));
  const chips = DATA.entries.map((entry, i) => h("button", {
    type: "button", "aria-pressed": "true", title: entry.allowance || null,
    click: () => { if (!off.delete(i)) off.add(i); methodsChanged(); },
  }, glyph(entry), entry.title));
  $("chips").append(...chips);
  onMethods(() => {
    chips.forEach((chip, i) => {
      chip.setAttribute("aria-pressed", String(!off.has(i)));
      chip.classList.toggle("out", !fits(i));
    });
    const shown = range(chips.length).filter(isShown).length;
    $("count").textContent = `${shown} of ${chips.length} methods shown`;
  });
}

methodChoice();
const SECTIONS = {leaderboard, severity: severityCurves, shifts: shiftTable, robustness, cost,
  reliability, routing, examples};
for (const [id, fill] of Object.entries(SECTIONS)) {
  const host = h("div");
  $(id).append(host);
  try {
    fill(host);
  } catch (error) {
    if (error.constructor !== Error) throw error;
    host.replaceChildren(h("p", {class: "why"}, `Not shown: ${error.message}.`));
  }
}
document.documentElement.dataset.ready = "yes";
