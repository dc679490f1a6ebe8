"use strict";
(async () => {
const main = document.querySelector("main");
main.setAttribute("aria-busy", "true");
const data = await unfolded().catch(() => null);
main.removeAttribute("aria-busy");
if (!data) {
  const sorry = document.createElement("p");
  sorry.className = "note";
  sorry.id = "sorry";
  sorry.textContent = "This browser cannot unpack the tables and pictures of this page: it has no DecompressionStream, as browsers have since 2023, or the file is damaged. The Markdown and JSON reports hold the same findings.";
  main.replaceChildren(sorry);
  return;
}
// The data is JSON, deflated, in base64.
async function unfolded() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
}
const T = data.texts, OUT = data.outcomes, KINDS = data.kinds;
const GLYPH = {pass: "", fail: "\u00d7", known: "~", fixed: "!", unsupported: "", error: "E", "not-run": "?"};
const WORST = ["fail", "error", "fixed", "not-run", "known", "unsupported", "pass"];
const KIND_NAMES = {session: "session and model", forward: "forward", backward: "backward of a custom loss", train: "forward_backward", optim: "optim_step", state: "save, load", poll: "asking for a result", other: "other"};

// --- making elements: text is only ever text ----------------------------------------------------------------------
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  for (const child of children.flat(9)) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const tip = text => s("title", {}, text);
const mark = outcome => h("span", {class: `mark ${outcome}`, "aria-hidden": "true"}, GLYPH[outcome]);
const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const num = v => typeof v === "string" ? Number(v) : v;
function short(v, digits = 5) {
  if (v === null || v === undefined) return "none";
  if (!Number.isFinite(v)) return String(v).replace("Infinity", "\u221e");
  if (v === 0) return "0";
  const a = Math.abs(v);
  return (a >= 1e6 || a < 1e-4 ? v.toExponential(2) : String(Number(v.toPrecision(digits)))).replace("-", "\u2212");
}

// --- what there is ------------------------------------------------------------------------------------------------
const scenarios = data.scenarios.map((raw, index) => {
  const outcomes = new Map();
  [...raw.cells].forEach((c, i) => { if (c !== ".") outcomes.set(i, OUT[Number(c)]); });
  const worst = WORST.find(o => [...outcomes.values()].includes(o)) || "pass";
  const found = (raw.found || []).map(f => ({check: f[0], fails: !!f[1], message: T[f[2] || 0], expected: T[f[3] || 0], observed: T[f[4] || 0], where: T[f[5] || 0], cause: T[f[6] || 0], sure: T[f[7] || 0], detail: T[f[8] || 0], label: T[f[9] || 0]}));
  const text = [raw.id, T[raw.title || 0], ...[...outcomes.keys()].map(i => data.checks[i]), ...found.map(f => `${f.message} ${f.cause}`)].join(" ").toLowerCase();
  return {...raw, index, outcomes, worst, found, text, area: raw.id.split("/")[0], causes: new Set(found.map(f => f.cause).filter(Boolean)), title: T[raw.title || 0]};
});
const byId = new Map(scenarios.map(x => [x.id, x]));
const state = {text: "", outcomes: new Set(), area: "", cause: ""};
const wanted = x => state.text.split(/\s+/).every(word => x.text.includes(word)) && (!state.area || x.area === state.area) && (!state.cause || x.causes.has(state.cause)) && (!state.outcomes.size || [...x.outcomes.values()].some(o => state.outcomes.has(o)));

// --- totals and filters -------------------------------------------------------------------------------------------
function totals() {
  const all = data.totals.reduce((a, b) => a + b, 0) || 1;
  const parts = WORST.slice().reverse().map(o => [o, data.totals[OUT.indexOf(o)]]).filter(([, n]) => n);
  const bar = h("div", {class: "bar", role: "img", "aria-label": parts.map(([o, n]) => `${n} ${o}`).join(", ")}, parts.map(([o, n]) => {
    const part = h("span", {class: o, title: `${n} ${o}`});
    part.style.flexGrow = n / all * 1000;
    part.style.background = "var(--c)";
    return part;
  }));
  const left = [["title", n => plural(n, "title")], ["text", n => `texts of ${plural(n, "finding")}`], ["picture", n => `pictures of ${plural(n, "scenario")}`]].filter(([sort]) => data.left[sort]).map(([sort, say]) => say(data.left[sort]));
  const sorry = left.length && h("p", {class: "note", id: "left"}, `Left out, as the page would be too large: ${left.join(", ")}. The JSON report has all that was said; a page of fewer scenarios has their pictures.`);
  document.getElementById("totals").append(bar, ...(sorry ? [sorry] : []), ...data.unused.map(([title, reason]) => h("p", {class: "note"}, "The ledger lists ", h("code", {}, T[title]), ", which excuses nothing any more: ", T[reason])));
}

function filters() {
  const form = document.getElementById("filters");
  const count = h("span", {class: "count", role: "status"});
  const search = h("input", {type: "search", id: "search", placeholder: "Scenario, check, cause", "aria-label": "Search scenarios, checks and causes", "aria-keyshortcuts": "/"});
  search.addEventListener("input", () => { state.text = search.value.trim().toLowerCase(); apply(); });
  const buttons = WORST.filter(o => data.totals[OUT.indexOf(o)]).map(o => {
    const button = h("button", {type: "button", class: "outcome", "aria-pressed": "false", "data-outcome": o}, mark(o), o, h("b", {}, data.totals[OUT.indexOf(o)].toLocaleString("en")));
    button.addEventListener("click", () => {
      state.outcomes.has(o) ? state.outcomes.delete(o) : state.outcomes.add(o);
      button.setAttribute("aria-pressed", String(state.outcomes.has(o)));
      apply();
    });
    return button;
  });
  const pick = (label, all, options, key) => {
    const box = h("select", {"aria-label": label, id: key}, h("option", {value: ""}, all), options.map(([value, text]) => h("option", {value}, text)));
    box.addEventListener("change", () => { state[key] = box.value; apply(); });
    return box;
  };
  const areas = [...new Set(scenarios.map(x => x.area))].sort().map(a => [a, a]);
  const tally = new Map();
  scenarios.forEach(x => x.found.forEach(f => { if (f.cause) tally.set(f.cause, (tally.get(f.cause) || 0) + 1); }));
  const causes = [...tally].sort((a, b) => b[1] - a[1]).map(([code, n]) => [code, `${code} (${n})`]);
  const reset = h("button", {type: "button", id: "reset"}, "Clear");
  reset.addEventListener("click", () => {
    Object.assign(state, {text: "", area: "", cause: ""});
    state.outcomes.clear();
    form.querySelectorAll("input, select").forEach(field => { field.value = ""; });
    buttons.forEach(button => button.setAttribute("aria-pressed", "false"));
    apply();
  });
  form.addEventListener("submit", event => event.preventDefault());
  form.append(search, ...buttons, pick("Area", "all areas", areas, "area"), ...(causes.length ? [pick("Cause", "all causes", causes, "cause")] : []), reset, count);
  document.addEventListener("keydown", event => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
  });
  return shown => {
    count.textContent = `${shown} of ${plural(scenarios.length, "scenario")}`;
    reset.disabled = !(state.text || state.area || state.cause || state.outcomes.size);
  };
}

// --- scenario by check --------------------------------------------------------------------------------------------
const rows = [];
function matrix() {
  const edge = i => i > 0 && data.checks[i].split(".")[0] !== data.checks[i - 1].split(".")[0];
  const heads = data.checks.map((check, i) => h("th", {scope: "col", class: edge(i) && "edge"}, h("span", {}, check)));
  const body = h("tbody", {});
  for (const x of scenarios) {
    const head = h("th", {scope: "row", title: x.title}, x.id);
    const cells = data.checks.map((check, i) => {
      const o = x.outcomes.get(i);
      return h("td", {class: edge(i) && "edge", ...(o ? {title: `${check}: ${o}`, "aria-label": `${check} ${o}`} : {"aria-label": `${check} does not apply`})}, o && mark(o));
    });
    const row = h("tr", {}, head, cells);
    rows.push({x, row, fields: [head, ...cells]});
    body.append(row);
  }
  const table = h("table", {role: "grid", "aria-label": "Scenarios in rows, checks in columns. Arrow keys move, Enter shows the scenario."}, h("thead", {}, h("tr", {}, h("th", {class: "corner", scope: "col"}, "scenario"), heads)), body);
  const legend = h("ul", {class: "legend"}, WORST.filter(o => data.totals[OUT.indexOf(o)]).map(o => h("li", {}, mark(o), o)), h("li", {}, "an empty place: the check does not apply"));
  document.getElementById("matrix").append(h("div", {class: "grid"}, table), legend);
  const at = {row: 0, column: 0};
  let current = null, hot = null;
  const move = (row, column, focus) => {
    const visible = rows.filter(r => !r.row.hidden);
    if (current) current.removeAttribute("tabindex");
    if (hot) { hot.row.classList.remove("hot"); heads.forEach(head => head.classList.remove("hot")); }
    if (!visible.length) return;
    at.row = Math.max(0, Math.min(visible.length - 1, row));
    at.column = Math.max(0, Math.min(data.checks.length, column));
    current = visible[at.row].fields[at.column];
    current.setAttribute("tabindex", "0");
    if (!focus) return;
    hot = visible[at.row];
    hot.row.classList.add("hot");
    if (at.column) heads[at.column - 1].classList.add("hot");
    current.focus({preventScroll: true});
    current.scrollIntoView({block: "nearest", inline: at.column ? "nearest" : undefined});
    keepClear(current, table.parentNode, table.tHead.offsetHeight, visible[at.row].fields[0].offsetWidth);
  };
  table.addEventListener("keydown", event => {
    const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-15, 0], PageDown: [15, 0]};
    if (steps[event.key]) move(at.row + steps[event.key][0], at.column + steps[event.key][1], true);
    else if (event.key === "Home") move(event.ctrlKey ? 0 : at.row, 0, true);
    else if (event.key === "End") move(event.ctrlKey ? 1e9 : at.row, 1e9, true);
    else if (event.key === "Enter" || event.key === " ") show(rows.filter(r => !r.row.hidden)[at.row].x, true);
    else return;
    event.preventDefault();
  });
  table.addEventListener("click", event => {
    const field = event.target.closest("td, tbody th");
    if (!field) return;
    const visible = rows.filter(r => !r.row.hidden);
    const row = visible.findIndex(r => r.row === field.parentNode);
    move(row, visible[row].fields.indexOf(field), true);
    show(visible[row].x, true);
  });
  return () => move(0, 0, false);
}
// What is sticky must not lie over the focused cell.
function keepClear(cell, box, top, left) {
  const c = cell.getBoundingClientRect(), b = box.getBoundingClientRect();
  if (c.top < b.top + top) box.scrollTop -= b.top + top - c.top;
  if (cell.tagName === "TD" && c.left < b.left + left) box.scrollLeft -= b.left + left - c.left;
}

// --- one scenario -------------------------------------------------------------------------------------------------
const opened = new Map();
let room = 0;
function list() {
  const box = document.getElementById("list");
  for (const x of scenarios) {
    const counts = WORST.filter(o => o !== "pass").map(o => [o, [...x.outcomes.values()].filter(v => v === o).length]).filter(([, n]) => n);
    const told = counts.length ? counts.map(([o, n]) => `${n} ${o}`).join(", ") + ` of ${x.outcomes.size}` : plural(x.outcomes.size, "check");
    const summary = h("summary", {}, mark(x.worst), h("span", {class: "id"}, x.id), h("span", {class: "title"}, x.title), h("span", {class: "told"}, told));
    x.node = h("details", {class: "scenario", id: `s-${x.index}`}, summary);
    x.node.addEventListener("toggle", () => { if (x.node.open && !opened.has(x)) draw(x); });
    box.append(x.node);
  }
  box.append(h("p", {class: "note", id: "none", hidden: true}, "No scenario matches the filters."));
}
function draw(x) {
  const old = opened.get(x);
  const body = h("div", {class: "body"});
  if (old) old.replaceWith(body); else x.node.append(body);
  opened.set(x, body);
  const told = findings(x);
  // Asked of the list once: asking each body would lay the whole page out anew each time.
  room = room || document.getElementById("list").clientWidth;
  body.append(...told.first, ...pictures(x, Math.max(280, Math.min(1060, room - (room < 690 ? 20 : 64)))), ...told.rest);
}
function show(x, focus) {
  x.node.open = true;
  if (!opened.has(x)) draw(x);
  x.node.scrollIntoView({block: "start"});
  if (focus) x.node.querySelector("summary").focus({preventScroll: true});
  history.replaceState(null, "", `#${encodeURIComponent(x.id)}`);
}
// So many failures stand before the pictures, the others behind them.
const FIRST = 2;
function findings(x) {
  const first = [], rest = [], groups = new Map();
  for (const f of x.found) {
    const key = JSON.stringify([x.outcomes.get(f.check), f.message, f.expected, f.observed, f.where, f.cause, f.detail, f.label]);
    if (!groups.has(key)) groups.set(key, {f, checks: []});
    groups.get(key).checks.push(data.checks[f.check]);
  }
  const order = [...groups.values()].sort((a, b) => WORST.indexOf(x.outcomes.get(a.f.check)) - WORST.indexOf(x.outcomes.get(b.f.check)));
  for (const {f, checks} of order) {
    const outcome = x.outcomes.get(f.check);
    const cause = data.causes[f.cause];
    const why = f.cause && h("dd", {}, cause ? cause[0] : f.cause, cause && [" (", h("code", {}, f.cause), f.sure && `, ${f.sure}`, ")"], f.detail && `: ${f.detail}`, cause && h("div", {class: "why"}, `${cause[1]} ${cause[2]}`));
    const [message, kind, reason] = listed(f.message);
    (f.fails && first.length < FIRST ? first : rest).push(h("div", {class: `finding ${outcome}`},
      h("p", {class: "head"}, h("span", {class: "what"}, f.label ? `${outcome}, ${f.label}` : outcome), h("span", {class: "check"}, checks.join(", "))),
      h("p", {}, message),
      (f.expected || f.observed) && h("div", {class: "sides"}, [["expected", f.expected], ["observed", f.observed]].map(([name, text]) => h("div", {}, h("h4", {}, name), h("pre", {}, text || "nothing")))),
      (f.where || f.cause || reason) && h("dl", {}, reason && [h("dt", {}, "listed"), h("dd", {}, kind && `${kind}: `, reason)], f.where && [h("dt", {}, "where"), h("dd", {}, f.where)], f.cause && [h("dt", {}, "cause"), why])));
  }
  const notes = [x.runs && (x.runs[1] ? `${x.runs[1]} of ${x.runs[0]} runs failed.` : `${x.runs[0]} runs held.`), x.note && `${T[x.note]}.`].filter(Boolean);
  if (notes.length) first.push(h("p", {class: "note"}, notes.join(" ")));
  if (x.around) first.push(h("h3", {}, "Around the first failure"), h("pre", {}, T[x.around]));
  const codes = [...x.causes].filter(code => data.causes[code]).slice(0, 3);
  rest.push(h("pre", {class: "commands"}, [`${data.again} -k ${x.id}`, ...codes.map(code => `parity explain ${code}`)].join("\n")));
  return {first, rest};
}
// What the ledger says about a known divergence stands at the end of its message.
function listed(message) {
  const told = / \(known(?: ([a-z-]+))?: ([^]*)\)$/.exec(message);
  return told ? [message.slice(0, told.index), told[1], told[2]] : [message];
}

// --- pictures -----------------------------------------------------------------------------------------------------
function pictures(x, width) {
  const p = x.picture;
  if (x.unpictured) return [h("p", {class: "note"}, "Its pictures are left out: the page would be too large. A run of fewer scenarios has room for them.")];
  if (!p) return [];
  if (p.trouble) return [h("p", {class: "note"}, T[p.trouble])];
  return [p.p.length && chunks(p, width), p.r.length && times(p, width), p.w && weights(p.w, width), (p.l || p.u) && training(p, width)].filter(Boolean);
}
function figure(title, told, picture, legend, table) {
  return h("figure", {}, h("figcaption", {}, title, told && h("span", {}, told)), picture, legend && h("ul", {class: "legend"}, legend), table);
}
function numbers(heads, lines) {
  const box = h("details", {class: "numbers"}, h("summary", {}, "Numbers"));
  box.addEventListener("toggle", () => {
    if (box.children.length > 1) return;
    box.append(h("div", {tabindex: "0"}, h("table", {}, h("thead", {}, h("tr", {}, heads.map(t => h("th", {class: t.startsWith("_") && "text", scope: "col"}, t.replace("_", ""))))), h("tbody", {}, lines.map(line => h("tr", {class: line.off}, line.map((cell, i) => h("td", {class: heads[i].startsWith("_") ? "text" : line.off && i >= heads.length - line.off && "off"}, String(cell)))))))));
  });
  return box;
}
const kindLegend = used => [...used].sort((a, b) => a - b).map(k => h("li", {}, h("i", {class: `k${k}`}), KIND_NAMES[KINDS[k]]));

// Chunks: one strip of what is expected over one of what came, call by call, widths by the number of datums.
function chunks(p, width) {
  const pairs = row => { const out = []; for (let i = 0; i < row.length; i += 2) out.push([row[i], row[i + 1]]); return out; };
  const passes = p.p.map(([name, kind, model, expected, observed]) => ({name: T[name], kind, model: T[model], expected: pairs(expected), observed: observed === 0 ? pairs(expected) : pairs(observed), same: observed === 0}));
  const SMALL = 19, GAP = 11, LEFT = 66, HIGH = 17;
  const sum = list => list.reduce((a, c) => a + c[1], 0);
  const most = Math.max(1, ...passes.map(q => Math.max(sum(q.expected), sum(q.observed))));
  const unit = Math.min(14, (width - LEFT) * .42 / most);
  const wide = c => Math.max(SMALL, c[1] * unit);
  const span = list => list.reduce((a, c) => a + wide(c) + 1.5, 0);
  let at = LEFT, top = 0, model = passes[0].model, call = "", free = 0;
  const svg = s("svg", {role: "img"});
  const models = new Set(passes.map(q => q.model));
  const label = (y, of) => svg.append(models.size > 1 ? s("text", {class: "ink", x: 0, y: y + 10}, of) : "", s("text", {x: 0, y: y + 29}, "expected"), s("text", {x: 0, y: y + 51}, "observed"));
  label(0, model);
  for (const q of passes) {
    const w = Math.max(span(q.expected), span(q.observed), SMALL);
    if ((at + w > width && at > LEFT) || q.model !== model) { at = LEFT; top += 76; label(top, q.model); call = ""; free = 0; }
    model = q.model;
    const title = (models.size > 1 ? `${q.model} ` : "") + q.name;
    // The name of a call stands once over its passes: their colours tell them apart.
    const name = q.name.replace(/ (forward|backward)$/, "");
    if (name !== call && at >= free) {
      const text = name.length > 22 ? `${name.slice(0, 21)}\u2026` : name;
      svg.append(s("text", {x: at, y: top + 10, class: "ink"}, text, tip(name)));
      free = at + text.length * 6.3 + 6;
    }
    call = name;
    [[q.expected, 17, "expected"], [q.observed, 39, "observed"]].forEach(([list, y, side]) => {
      let here = at;
      list.forEach((c, i) => {
        const other = q.expected[i];
        const odd = side === "observed" && !q.same && (!other || other[0] !== c[0] || other[1] !== c[1]);
        svg.append(s("rect", {class: `box k${q.kind}${odd ? " odd" : ""}`, x: here, y: top + y, width: wide(c), height: HIGH, rx: 2, "fill-opacity": side === "expected" ? .5 : 1}, tip(`${side} ${title}: seq ${c[0] === null ? "none" : c[0]}${c[1] ? `, ${plural(c[1], "datum")}` : ""}`)));
        const text = c[1] && wide(c) > 46 ? `${c[0] === null ? "" : `${c[0]}: `}${c[1]}` : c[0] === null ? "" : String(c[0]);
        if (text.length * 6.2 < wide(c) + 2) svg.append(s("text", {class: side === "expected" ? "in pale" : "in", x: here + wide(c) / 2, y: top + y + 12.5, "text-anchor": "middle"}, text));
        here += wide(c) + 1.5;
      });
      if (!list.length) svg.append(s("rect", {class: "ghost", x: at + .5, y: top + y + .5, width: Math.max(SMALL, w - 1.5), height: HIGH - 1, rx: 2}, tip(`${side}: none`)));
    });
    at += w + GAP;
  }
  svg.setAttribute("width", width);
  svg.setAttribute("height", top + 60);
  const differ = passes.filter(q => !q.same).length;
  svg.setAttribute("aria-label", `${passes.length} calls and phases, ${differ ? `${differ} differ` : "all as expected"}`);
  const lines = passes.flatMap(q => Array.from({length: Math.max(q.expected.length, q.observed.length)}, (_, i) => {
    const [e, o] = [q.expected[i], q.observed[i]];
    const line = [q.name, e ? e[0] : "none", e ? e[1] : "none", o ? o[0] : "none", o ? o[1] : "none"];
    if (!e || !o || e[0] !== o[0] || e[1] !== o[1]) line.off = 2;
    return line;
  }));
  const legend = [...kindLegend(new Set(passes.map(q => q.kind))), h("li", {}, "in a box: seq_id, and datums where there is room")];
  if (p.more && p.more[1]) legend.push(h("li", {}, `${p.more[1]} more are not shown`));
  return figure("Requests and chunks", differ ? `${differ} of ${passes.length} parts differ` : "as expected", svg, legend, numbers(["_call", "expected seq", "datums", "observed seq", "datums"], lines));
}

// The time line: one lane per connection.
function times(p, width) {
  const all = p.r.map(([connection, kind, route, begin, took, status, seq, model, datums, resend]) => ({connection: T[connection], kind, route: T[route], begin, took, status, seq: seq === undefined ? null : seq, model: T[model || 0], datums: datums || 0, resend: !!resend}));
  const lanes = [...new Set(all.map(r => r.connection))];
  const end = Math.max(1, ...all.map(r => r.begin + (r.took || 0))) * 1.01;
  const LEFT = 66, LANE = 19, scale = (width - LEFT - 8) / end;
  const X = t => LEFT + t * scale;
  const svg = s("svg", {role: "img", width, height: lanes.length * LANE + 26, "aria-label": `${all.length} requests on ${lanes.length} connections in ${short(end, 3)} ms`});
  const step = nice(end / Math.max(3, width / 130));
  for (let t = 0; t <= end; t += step) svg.append(s("line", {class: "axis", x1: X(t), x2: X(t), y1: 0, y2: lanes.length * LANE + 4}), s("text", {x: X(t), y: lanes.length * LANE + 18, "text-anchor": t ? "middle" : "start"}, time(t, step)));
  lanes.forEach((lane, i) => svg.append(s("text", {x: 0, y: i * LANE + 13}, lane)));
  const reach = new Map();
  for (const r of all) {
    const y = lanes.indexOf(r.connection) * LANE + (r.kind === 6 ? 6 : 3);
    const long = r.took === null ? end - r.begin : r.took;
    const told = [`${r.route}${r.seq !== null ? ` seq ${r.seq}` : ""}${r.model ? ` of ${r.model}` : ""}`, r.datums ? plural(r.datums, "datum") : "", `at ${short(r.begin, 6)} ms`, r.took === null ? "never answered" : `${r.status === null ? "no status" : r.status} after ${short(r.took, 4)} ms`, r.resend ? "sent again" : ""].filter(Boolean).join(", ");
    const bad = r.took === null || r.status === null || r.status >= 400;
    const w = Math.max(3, long * scale);
    svg.append(s("rect", {class: `request k${r.kind}${bad ? " refused" : ""}`, x: X(r.begin), y, width: w, height: r.kind === 6 ? 7 : 13, rx: 1.5, "stroke-dasharray": r.took === null && "3 2"}, tip(told)));
    const text = r.kind === 6 || r.seq === null ? "" : String(r.seq);
    if (text && w > text.length * 6.5 + 3) svg.append(s("text", {class: "in", x: X(r.begin) + w / 2, y: y + 10.3, "text-anchor": "middle"}, text));
    else if (text && X(r.begin) > (reach.get(r.connection) || 0)) {
      svg.append(s("text", {x: X(r.begin) + w + 2, y: y + 10.3, class: "ink"}, text));
      reach.set(r.connection, X(r.begin) + w + 4 + text.length * 6.5);
    }
    if (r.kind !== 6) reach.set(r.connection, Math.max(reach.get(r.connection) || 0, X(r.begin) + w));
  }
  const legend = kindLegend(new Set(all.map(r => r.kind)));
  if (all.some(r => r.took === null || r.status === null || r.status >= 400)) legend.push(h("li", {}, h("i", {class: "outlined"}), "outlined: refused or never answered"));
  legend.push(h("li", {}, "numbers are seq_ids"));
  const lines = all.map(r => { const line = [r.connection, r.route, r.seq === null ? "" : r.seq, r.datums || "", short(r.begin, 7), r.took === null ? "never" : short(r.took, 4), r.status === null ? "none" : r.status]; if (r.took === null || r.status === null || r.status >= 400) line.off = 1; return line; });
  const more = p.more && p.more[0] ? `, the first ${all.length} of ${all.length + p.more[0]} requests` : "";
  return figure("Time line by connection", `observed${more}`, svg, legend, numbers(["_connection", "_route", "seq", "datums", "at ms", "took ms", "status"], lines));
}
function nice(rough) {
  const ten = 10 ** Math.floor(Math.log10(rough));
  return ten * ([1, 2, 5, 10].find(m => m * ten >= rough) || 10);
}
const time = (t, step) => t === 0 ? "0" : step >= 1000 ? `${short(t / 1000, 6)} s` : `${short(t, 6)} ms`;

// Weights: expected as bars, observed as marks on them, and below what lies between.
function weights([where, first, total, differing, begins, expected, errors], width) {
  const e = expected.map(num), d = errors === 0 ? e.map(() => 0) : errors.map(v => Array.isArray(v) ? NaN : num(v));
  const o = e.map((v, i) => errors !== 0 && Array.isArray(errors[i]) ? num(errors[i][0]) : v + d[i]);
  const LEFT = 66, HIGH = 92, LOW = 46, step = Math.min(26, (width - LEFT - 10) / e.length);
  const finite = [...e, ...o].filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...finite), Math.max(0, ...finite)];
  const Y = v => 8 + (high - v) / ((high - low) || 1) * HIGH;
  const most = Math.max(...d.filter(Number.isFinite).map(Math.abs), 0);
  const zero = HIGH + 34 + LOW / 2;
  const svg = s("svg", {role: "img", width: LEFT + step * e.length + 10, height: HIGH + LOW + 58, "aria-label": `${e.length} of ${total} weights, ${differing} differ`});
  svg.append(s("text", {x: LEFT - 6, y: 14, "text-anchor": "end"}, short(high, 3)), s("text", {x: LEFT - 6, y: HIGH + 12, "text-anchor": "end"}, short(low, 3)), s("text", {x: 0, y: zero + 4}, "error"), s("line", {class: "zero", x1: LEFT, x2: LEFT + step * e.length, y1: Y(0), y2: Y(0)}), s("line", {class: "zero", x1: LEFT, x2: LEFT + step * e.length, y1: zero, y2: zero}));
  if (most) svg.append(s("text", {x: LEFT - 6, y: zero - LOW / 2 + 6, "text-anchor": "end"}, short(most, 2)));
  begins.forEach(i => svg.append(s("line", {class: "axis", x1: LEFT + i * step, x2: LEFT + i * step, y1: 0, y2: zero + LOW / 2})));
  e.forEach((v, i) => {
    const x = LEFT + i * step, told = tip(`weight ${first + i}: expected ${short(v, 7)}, observed ${short(o[i], 7)}, error ${short(d[i], 3)}`);
    const group = s("g", {}, told, s("rect", {x, y: 0, width: step, height: zero + LOW / 2, "fill-opacity": 0}));
    if (Number.isFinite(v)) group.append(s("rect", {class: "expected", x: x + step * .15, width: step * .7, y: Math.min(Y(v), Y(0)), height: Math.max(1, Math.abs(Y(v) - Y(0)))}));
    if (Number.isFinite(o[i])) group.append(s("rect", {class: "observed", x: x + step * .05, width: step * .9, y: Y(o[i]) - 1.25, height: 2.5}));
    else group.append(s("text", {class: "differs", x: x + step / 2, y: 12, "text-anchor": "middle"}, short(o[i])));
    if (d[i] && Number.isFinite(d[i])) {
      const long = Math.abs(d[i]) / most * LOW / 2;
      group.append(s("rect", {class: differing ? "differs" : "expected", x: x + step * .25, width: step * .5, y: d[i] > 0 ? zero - long : zero, height: Math.max(.6, long)}));
    }
    svg.append(group);
  });
  const ticks = Math.max(1, nice(e.length / Math.max(2, step * e.length / 90)));
  for (let i = (ticks - first % ticks) % ticks; i < e.length; i += ticks) svg.append(s("text", {x: LEFT + (i + .5) * step, y: zero + LOW / 2 + 16, "text-anchor": "middle"}, first + i));
  const lines = e.map((v, i) => { const line = [first + i, short(v, 7), short(o[i], 7), short(d[i], 3)]; if (differing && (d[i] || Number.isNaN(d[i]))) line.off = 2; return line; });
  const told = `${differing ? `${differing.toLocaleString("en")} of ${plural(total, "number")} differ` : `all ${plural(total, "number")} agree`}${total > e.length ? `; shown are ${e.length} from ${T[where]}` : ""}`;
  return figure("Weights", told, svg, [h("li", {}, h("i", {class: "gold"}), "expected"), h("li", {}, h("i", {class: "seen line"}), "observed"), differing > 0 && h("li", {}, h("i", {class: "wrong"}), "error, observed \u2212 expected"), begins.length > 0 && h("li", {}, "a line: the next datum begins")], numbers(["weight", "expected", "observed", "error"], lines));
}

// Loss and parameters over steps: small panels side by side.
function training(p, width) {
  const panels = [], lines = [];
  if (p.l) {
    const rows = p.l.map(([step, e, o]) => [T[step], num(e), num(o)]);
    panels.push(panel("loss", rows, width));
    rows.forEach(row => lines.push(["loss", ...row]));
  }
  if (p.u) {
    const models = [...new Set(p.u.map(u => u[0]))];
    for (const model of models) {
      const of = p.u.filter(u => u[0] === model).map((u, i) => [`step ${i + 1}`, ...u.slice(1).map(num)]);
      const name = models.length > 1 ? `${T[model]}, ` : "";
      [["gradient norm", 1], ["parameter norm", 3]].forEach(([what, at]) => {
        const rows = of.map(u => [u[0], u[at], u[at + 1]]);
        panels.push(panel(`${name}${what}`, rows, width));
        rows.forEach(row => lines.push([`${name}${what}`, ...row]));
      });
      if (of.some(u => u[5])) {
        const rows = of.map(u => [u[0], 0, u[5]]);
        panels.push(panel(`${name}distance of parameters`, rows, width));
        rows.forEach(row => lines.push([`${name}distance of parameters`, ...row]));
      }
    }
  }
  const table = lines.map(([what, step, e, o]) => { const line = [what, step, short(e, 7), short(o, 7)]; if (e === null || o === null || Math.abs(e - o) > 1e-4 * Math.max(Math.abs(e), 1e-6)) line.off = 1; return line; });
  return figure("Loss and parameters over steps", "", h("div", {class: "panels"}, panels), [h("li", {}, h("i", {class: "gold"}), "expected"), h("li", {}, h("i", {class: "seen dot"}), "observed")], numbers(["_what", "_step", "expected", "observed"], table));
}
function panel(title, rows, width) {
  const W = width > 1000 ? 240 : Math.min(300, width), HIGH = 96, LEFT = 58;
  const values = rows.flatMap(row => [row[1], row[2]]).filter(v => v !== null && Number.isFinite(v));
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!values.length) [low, high] = [0, 1];
  const spread = high - low, least = Math.max(Math.abs(high), Math.abs(low)) * 1e-3 || 1e-9;
  if (spread < least) { low -= least; high += least; }
  const X = i => LEFT + 6 + (rows.length > 1 ? i / (rows.length - 1) : .5) * (W - LEFT - 22), Y = v => 24 + (high - v) / (high - low) * HIGH;
  const points = at => rows.map((row, i) => [i, row[at]]).filter(([, v]) => v !== null && Number.isFinite(v));
  const path = at => points(at).map(([i, v]) => `${X(i)},${Y(v)}`).join(" ");
  const digits = Math.min(7, 2 + Math.ceil(Math.log10(Math.max(Math.abs(high), Math.abs(low)) / (high - low) || 1)) + 1);
  const svg = s("svg", {role: "img", width: W, height: HIGH + 46, "aria-label": `${title}: ${rows.map(row => `${row[0]} expected ${short(row[1])} observed ${short(row[2])}`).join("; ")}`});
  svg.append(s("text", {class: "ink", x: 0, y: 10}, title), s("text", {x: LEFT - 6, y: 30, "text-anchor": "end"}, short(high, digits)), s("text", {x: LEFT - 6, y: 24 + HIGH, "text-anchor": "end"}, short(low, digits)), s("line", {class: "axis", x1: LEFT, x2: LEFT, y1: 24, y2: 24 + HIGH}), s("line", {class: "axis", x1: LEFT, x2: W - 8, y1: 24 + HIGH, y2: 24 + HIGH}));
  svg.append(s("polyline", {class: "expected", points: path(1), "stroke-width": 6, "stroke-linecap": "round", "stroke-linejoin": "round", "stroke-opacity": .75}), s("polyline", {class: "observed", points: path(2), "stroke-width": 1.5}));
  points(1).forEach(([i, v]) => rows.length === 1 && svg.append(s("rect", {class: "expected", x: X(i) - 9, y: Y(v) - 3, width: 18, height: 6, rx: 3})));
  points(2).forEach(([i, v]) => svg.append(s("circle", {class: "observed", cx: X(i), cy: Y(v), r: 3.2}, tip(`${rows[i][0]}: expected ${short(rows[i][1], 7)}, observed ${short(v, 7)}`))));
  const every = Math.ceil(rows.length / 6);
  rows.forEach((row, i) => i % every === 0 && svg.append(s("text", {x: X(i), y: HIGH + 40, "text-anchor": "middle"}, row[0].length > 8 ? row[0].slice(0, 7) + "\u2026" : row[0].replace("step ", ""))));
  return svg;
}

// --- together -----------------------------------------------------------------------------------------------------
totals();
const told = filters();
const settle = matrix();
list();
function apply() {
  let shown = 0;
  for (const {x, row} of rows) {
    const here = wanted(x);
    row.hidden = x.node.hidden = !here;
    shown += here;
  }
  document.getElementById("none").hidden = shown > 0;
  told(shown);
  settle();
}
apply();
const clear = () => document.documentElement.style.setProperty("--clear", `${document.getElementById("filters").offsetHeight + 6}px`);
clear();
const named = byId.get(decodeURIComponent(location.hash.slice(1)));
if (named) show(named, false);
let wait = 0, before = document.documentElement.clientWidth;
addEventListener("resize", () => {
  clearTimeout(wait);
  wait = setTimeout(() => {
    if (document.documentElement.clientWidth === before) return;
    before = document.documentElement.clientWidth;
    clear();
    room = 0;
    opened.forEach((_, x) => draw(x));
  }, 150);
});
addEventListener("hashchange", () => { const x = byId.get(decodeURIComponent(location.hash.slice(1))); if (x) show(x, false); });
})();
