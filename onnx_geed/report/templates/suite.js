// Everything on the page is drawn from the rows that the selects and the search box choose.
const {fields, names, measures, warnings, rows: packed} = JSON.parse(document.getElementById("suite-data").textContent);
const root = document.getElementById("suite"), part = name => root.querySelector(`[data-part="${name}"]`);
const rows = packed.map(row => Object.fromEntries(fields.map((field, i) => [field, row[i]])));
const [ROWS, PICTURES, COLOURS, BARS] = [200, 12, 12, 40];
const natural = new Intl.Collator(undefined, {numeric: true}).compare;
const distinct = list => [...new Set(list)];
const byKey = (list, key) => {
  const found = new Map();
  for (const item of list) {
    const at = key(item), own = found.get(at);
    if (own) own.push(item); else found.set(at, [item]);
  }
  return found;
};

const fill = (element, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const cut = (text, most) => text.length <= most ? text : `${text.slice(0, most - 8)}…${text.slice(-7)}`;

// Numbers as the other page writes them: three figures, a minus that is one.
const RAISED = {"-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹"};
const told = x => {
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e-3 && size < 1e4
    ? x.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size))))
    : x.toExponential(1).replace(/e\+?(.*)/, (_, power) => `·10${[...power].map(c => RAISED[c]).join("")}`);
  return text.replace(/-/g, "\u2212");
};
const percent = x => {
  if (x === 0) return "0\u00a0%";
  if (Math.abs(x) < .001) return `<0.1\u00a0%`;
  return `${(100 * x).toFixed(Math.abs(x) < .1 ? 1 : 0)}\u00a0%`.replace("-", "\u2212");
};
const range = (ends, write) => ends ? `${write(ends[0])} to ${write(ends[1])}` : "";
// A cosine is told as one; files have it with a minus, so that larger is less equivariant.
const valueText = (row, x) => told(measures[row.measure].cosine ? -x : x);
const valueRange = row => row.ends
  && range(measures[row.measure].cosine ? [-row.ends[1], -row.ends[0]] : row.ends, told);
const valueWords = row => measures[row.measure].cosine
  ? `cosine ${valueText(row, row.value)}` : `${valueText(row, row.value)} ${measures[row.measure].unit}`;

// A model has one colour wherever it is. Beyond the colours there are, models are grey until chosen.
const modelOrder = names.model.map((_, i) => i).sort((a, b) => natural(names.model[a], names.model[b]));
const colourOf = new Map(modelOrder.map((model, i) => [model, i < COLOURS ? `k${i}` : "other"]));
const look = model => colourOf.get(model) + (model === now.chosen ? " chosen" : "");
const several = kind => distinct(rows.map(row => row[kind])).length > 1;
const many = {step: several("step"), data: several("data"), group: several("group"),
  layer: [...byKey(rows, r => `${r.model} ${r.measure}`).values()].some(own => distinct(own.map(r => r.layer)).length > 1),
  seeds: rows.some(row => row.models > 1)};
const now = {model: "", data: "", group: "", measure: "", layer: "last", step: "last", scale: "far", words: "",
  chosen: null, sort: {key: `m${rows[0].measure}`, down: false}, rows: ROWS, pictures: PICTURES};

// The one tooltip.
const tip = make("div", {id: "tip", role: "status", hidden: ""});
document.body.append(tip);
const showTip = (text, x, y) => {
  if (tip.textContent !== text) tip.textContent = text;
  tip.hidden = false;
  const {offsetWidth: w, offsetHeight: h} = tip, gap = 12;
  tip.style.left = `${Math.max(4, Math.min(x + gap, document.documentElement.clientWidth - w - 4))}px`;
  tip.style.top = `${y + gap + h > innerHeight ? y - gap - h : y + gap}px`;
};
const hideTip = () => { tip.hidden = true; };
document.addEventListener("keydown", e => { if (e.key === "Escape") hideTip(); });
document.addEventListener("scroll", hideTip, {passive: true, capture: true});
const rowTip = row => [
  names.model[row.model] + (row.step === null ? "" : `, step ${row.step}`),
  [names.data[row.data], names.group[row.group], names.layer[row.layer]].join(", "),
  `${measures[row.measure].title} (${names.measure[row.measure]})`,
  row.far === null ? "how far off: unknown"
    : `${percent(row.far)} off${row.farEnds ? ` (${range(row.farEnds, percent)})` : ""}`,
  row.value === null ? "" : valueWords(row) + (row.ends ? ` (${valueRange(row)})` : ""),
  row.ends || row.farEnds ? `95\u00a0% interval over ${row.over === "models" ? `${row.models} models` : `${row.samples} samples`}` : "",
  ...row.warnings.map(i => `! ${warnings[i]}`),
].filter(Boolean).join("\n");

// What is chosen.
const steps = distinct(rows.map(row => row.step).filter(step => step !== null)).sort((a, b) => a - b);
const options = kind => names[kind].map((name, i) => [String(i), name]).sort((a, b) =>
  kind === "layer" || kind === "measure" ? a[0] - b[0] : natural(a[1], b[1]));
const choices = [
  ["model", "Model", names.model.length > 1, [["", "all"], ...options("model")]],
  ["data", "Data", many.data, [["", "all"], ...options("data")]],
  ["group", "Group", many.group, [["", "all"], ...options("group")]],
  ["measure", "Measure", names.measure.length > 1, [["", "all"], ...options("measure")]],
  ["layer", "Layer", many.layer, [["last", "last of each measure"], ["worst", "worst of each measure"], ...options("layer")]],
  ["step", "Step", steps.length > 1,
    [["last", "last of each model"], ["", "all"], ...steps.map(step => [String(step), `step ${step}`])]],
  ["scale", "Pictures show", rows.some(row => row.far !== null), [["far", "how far off, %"], ["value", "values"]]],
];
const change = (key, value) => {
  Object.assign(now, {[key]: value, rows: ROWS, pictures: PICTURES});
  drawAll();
};
for (const [key, label, useful, list] of choices) {
  if (!useful) continue;
  const select = make("select", {"data-key": key}, ...list.map(([value, text]) => make("option", {value}, text)));
  select.value = now[key];
  select.addEventListener("change", () => change(key, select.value));
  part("choice").append(make("label", {}, label, select));
}
const box = make("input", {type: "search", placeholder: "model, data, group"});
box.addEventListener("input", () => change("words", box.value));
part("choice").append(make("label", {}, "Search", box));

const chosenRows = () => {
  const words = now.words.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter(row => ["model", "data", "group", "measure"].every(key => now[key] === "" || row[key] === Number(now[key]))
    && (["last", "worst"].includes(now.layer) || row.layer === Number(now.layer))
    && (["last", ""].includes(now.step) || row.step === Number(now.step))
    && words.every(word => [names.model[row.model], names.data[row.data], names.group[row.group],
      row.step === null ? "" : `step${row.step}`].some(text => text.toLowerCase().includes(word))));
};
// By what different samples are apart, where that is known of any; a layer without a value is not the worst.
const worstOf = list => {
  const of = list.some(row => row.far !== null) ? row => row.far : row => row.value;
  return list.reduce((a, b) => (of(b) ?? -Infinity) > (of(a) ?? -Infinity) ? b : a);
};
const lastStep = list => {
  const last = new Map(), key = row => `${row.model} ${row.data} ${row.group}`;
  for (const row of list) last.set(key(row), Math.max(row.step ?? -1, last.get(key(row)) ?? -1));
  return list.filter(row => (row.step ?? -1) === last.get(key(row)));
};

// The leaderboard: a row a model, step, data set and group; a column a measure.
const tableRows = list => {
  const cells = byKey(now.step === "last" ? lastStep(list) : list, r => `${r.model} ${r.step} ${r.data} ${r.group}`);
  return [...cells.values()].map(own => ({first: own[0], of: new Map([...byKey(own, r => r.measure)].map(([measure, all]) =>
    [measure, now.layer === "worst" ? worstOf(all) : all.at(-1)])),
    right: own.find(r => r.right !== null), kept: own.findLast(r => r.stay !== null)}));
};
const columns = shown => [
  {key: "model", head: ["model"], get: row => names.model[row.first.model]},
  many.step && {key: "step", head: ["step"], get: row => row.first.step, n: true},
  many.data && {key: "data", head: ["data"], get: row => names.data[row.first.data]},
  many.group && {key: "group", head: ["group"], get: row => names.group[row.first.group]},
  shown.some(row => row.kept) && {key: "stay", head: ["same class", make("small", {}, "after moving")], get: row => row.kept?.stay ?? null, n: true, ranks: true},
  ...distinct(shown.flatMap(row => [...row.of.keys()])).sort((a, b) => a - b).map(measure => {
    const far = shown.some(row => (row.of.get(measure)?.far ?? null) !== null);
    return {key: `m${measure}`, measure, far, ranks: true, head: [measures[measure].title, make("small", {}, `${names.measure[measure]}, ${far ? "how far off" : "value"}`)],
      get: row => row.of.get(measure)?.[far ? "far" : "value"] ?? null};
  }),
  shown.some(row => row.right) && {key: "right", head: ["correct class", make("small", {}, "of moved samples")], get: row => row.right?.right ?? null, n: true, ranks: true},
  many.seeds && {key: "seeds", head: ["seeds"], get: row => row.first.models, n: true},
].filter(Boolean);
const measured = (row, scaled) => {
  const cell = make("td", {class: "far"});
  if (!row) { cell.append("—"); return cell; }
  const value = row.value === null ? "no value" : valueWords(row), small = text => make("small", {}, text);
  const between = text => text ? [make("span", {class: "between"}, text)] : [];
  if (row.far === null && scaled) cell.append("—", small(value + (row.ends ? ` (${valueRange(row)})` : "")));
  else if (row.far === null) cell.append(make("b", {}, value), ...between(valueRange(row)));
  else {
    const full = make("span");
    full.style.width = `${100 * Math.min(Math.max(row.far, 0), 1)}%`;
    cell.append(make("b", {}, percent(row.far)), ...between(range(row.farEnds, percent)),
      make("span", {class: "bar"}, full), small(value));
  }
  if (many.layer) cell.append(small(cut(names.layer[row.layer], 40)));
  cell.row = row;
  return cell;
};
const modelButton = (model, most = Infinity) => {
  const button = make("button", {type: "button", "aria-pressed": String(model === now.chosen), "data-model": model}, cut(names.model[model], most));
  button.addEventListener("click", () => choose(model, button.closest("[data-part], table")));
  return button;
};
const choose = (model, within) => {
  now.chosen = now.chosen === model ? null : model;
  drawAll();
  within?.querySelector(`button[data-model="${model}"]`)?.focus({preventScroll: true});
};
const drawTable = list => {
  const table = root.querySelector("table"), shown = tableRows(list), heads = columns(shown);
  const {key, down} = now.sort, by = heads.find(c => c.key === key) ?? heads[0], focused = document.activeElement?.dataset?.sort;
  // Values under different groups are no ranking: each group has its own.
  shown.sort((a, b) => {
    const apart = by.ranks ? natural(names.group[a.first.group], names.group[b.first.group]) : 0;
    if (apart) return apart;
    const [x, y] = [by.get(a), by.get(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? natural(x, y) : x - y;
    return (down ? -order : order) || natural(names.model[a.first.model], names.model[b.first.model]) || a.first.step - b.first.step;
  });
  // A warning of every value is told once, any other once a row; pointing at a value tells its own.
  const warned = row => distinct([...row.of.values()].flatMap(value => value.warnings));
  const values = shown.flatMap(row => [...row.of.values()]);
  const common = shown.length > 1 ? warnings.map((_, i) => i).filter(i => values.every(value => value.warnings.includes(i))) : [];
  const marked = row => {
    const own = warned(row).filter(i => !common.includes(i)).length;
    return own ? [make("small", {class: "marked"}, `! ${own} warning${own > 1 ? "s" : ""}`)] : [];
  };
  table.tHead.replaceChildren(make("tr", {}, ...heads.map(column => {
    const button = make("button", {type: "button", "data-sort": column.key}, ...column.head);
    button.addEventListener("click", () => {
      now.sort = {key: column.key, down: now.sort.key === column.key && !now.sort.down};
      drawTable(chosenRows());
    });
    const sorted = column === by ? {"aria-sort": down ? "descending" : "ascending"} : {};
    return make("th", {scope: "col", ...(column.n ? {class: "n"} : {}), ...sorted}, button);
  })));
  table.tBodies[0].replaceChildren(...shown.slice(0, now.rows).map(row => make("tr", {}, ...heads.map((column, i) => {
    if (!i) return make("th", {scope: "row"}, make("span", {class: "name"}, make("span", {class: `chip ${look(row.first.model)}`}), modelButton(row.first.model)), ...marked(row));
    if (column.key === "stay" && row.kept) return make("td", {class: "n"}, percent(row.kept.stay));
    if (column.measure !== undefined) return measured(row.of.get(column.measure), column.far);
    if (column.key === "right" && row.right)
      return make("td", {class: "n"}, percent(row.right.right),
        ...(row.right.unmoved === null ? [] : [make("small", {}, `unmoved ${percent(row.right.unmoved)}`)]));
    return make("td", column.n ? {class: "n"} : {}, String(column.get(row) ?? "—"));
  }))));
  if (focused) table.querySelector(`[data-sort="${focused}"]`)?.focus();
  part("table").classList.toggle("tall", shown.length > 24);
  const all = byKey(rows, r => `${r.model} ${r.step} ${r.data} ${r.group}`).size;
  part("count").textContent = (shown.length ? `${Math.min(now.rows, shown.length)} of ${all} rows` : `No row matches; there are ${all}`)
    + (by.ranks && distinct(shown.map(row => row.first.group)).length > 1 ? ", each group ranked by itself" : "")
    + (shown.length > 1 ? `, sorted by ${by.head[0].toLowerCase()}${by.ranks ? `, ${(key === "stay" || key === "right") === down ? "best" : "worst"} first` : ""}.` : ".")
    + common.map(i => ` ! Of every value: ${warnings[i]}`).join("");
  part("table").hidden = !shown.length;
  part("more-rows").hidden = shown.length <= now.rows;
  part("more-rows").textContent = `Show all ${shown.length} rows`;
};
root.querySelector("table").addEventListener("pointermove", e => {
  const row = e.target.closest("td")?.row;
  if (row) showTip(rowTip(row), e.clientX, e.clientY); else hideTip();
});
root.querySelector("table").addEventListener("pointerleave", hideTip);
part("more-rows").addEventListener("click", () => { now.rows = Infinity; drawTable(chosenRows()); });

// Pictures: curves over steps, else over depth, else bars; larger is less equivariant.
// On a phone they are narrower, so that their text is not smaller than elsewhere.
const [WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM] = [innerWidth < 640 ? 350 : 460, 250, 52, 12, 14, 34];
const ticks = (low, high, count) => {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
  const list = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) list.push(i * step);
  return list;
};
const scaleOf = list => {
  const far = now.scale === "far" && list.some(row => row.far !== null), measure = measures[list[0].measure];
  const get = far ? row => row.far : row => row.value, ends = far ? row => row.farEnds : row => row.ends;
  const known = list.filter(row => get(row) !== null), perfect = far ? 0 : measure.perfect;
  const all = known.flatMap(row => [get(row), ...(ends(row) ?? [])]);
  const most = Math.max(perfect + 1e-9, ...[all.reduce((a, b) => Math.max(a, b), -Infinity)]);
  const least = all.reduce((a, b) => Math.min(a, b), perfect);
  const text = far ? x => `${Math.round(1e6 * x) / 1e4}\u00a0%`.replace("-", "\u2212") : x => told(Math.round((measure.cosine ? -x : x) * 1e9) / 1e9 + 0);
  return {get, ends, known, perfect, least, most: most + .04 * (most - perfect), text,
    unit: far ? "how far off" : measure.unit, levels: [[perfect, "perfect"], ...(far && most > 1 ? [[1, "different samples"]] : [])]};
};
const frame = (scale, place, ends, xs, label) => {
  const svg = draw("g"), [x0, x1] = ends, y0 = HIGH - BOTTOM;
  for (const y of ticks(scale.least, scale.most, 5)) svg.append(
    draw("line", {class: "grid", x1: x0, x2: x1, y1: place(y), y2: place(y)}),
    draw("text", {x: x0 - 5, y: place(y) + 4, "text-anchor": "end"}, scale.text(y)));
  for (const [level, name] of scale.levels) svg.append(
    draw("line", {class: "level", x1: x0, x2: x1, y1: place(level), y2: place(level)}),
    draw("text", {class: "axis", x: x1, y: place(level) - 3, "text-anchor": "end"}, name));
  for (const [x, text, anchor] of xs) svg.append(draw("text", {x, y: y0 + 15, "text-anchor": anchor ?? "middle"}, text));
  svg.append(draw("text", {class: "axis", x: (x0 + x1) / 2, y: HIGH - 4, "text-anchor": "middle"}, label));
  return svg;
};
const curves = (list, axis) => {
  const scale = scaleOf(list), models = [...byKey(scale.known, row => row.model)], points = [], svg = draw("svg", {viewBox: `0 0 ${WIDE} ${HIGH}`, class: "plot"});
  const placeY = y => HIGH - BOTTOM - (y - scale.least) / (scale.most - scale.least) * (HIGH - BOTTOM - TOP);
  const own = distinct(scale.known.map(row => row.step).filter(step => step !== null)).sort((a, b) => a - b);
  const [low, high] = axis === "step" ? [own[0] ?? 0, own.at(-1) ?? 1] : [0, 1];
  // A logarithmic axis spreads checkpoints that lie close at the beginning.
  const log = own.length > 3 && own[own.length >> 1] - low < .15 * (high - low), along = log ? Math.log1p : x => x;
  const placeX = x => LEFT + (high > low ? (along(x) - along(low)) / (along(high) - along(low)) : .5) * (WIDE - LEFT - RIGHT - 24) + 8;
  let marks = [[LEFT, "first", "start"], [WIDE - RIGHT, "last", "end"]];
  // Measured steps, as many as fit, always with the last one.
  if (axis === "step") marks = [...own].reverse().reduce((kept, step) =>
    kept.length && kept.at(-1)[0] - placeX(step) < 12 + 7 * String(high).length ? kept : [...kept, [placeX(step), String(step)]], []);
  const layers = models.map(([, all]) => all.map(row => row.layer));
  if (axis === "layer" && layers.every(l => String(l) === String(layers[0])) && layers[0].length > 1 && layers[0].length <= 5)
    marks = layers[0].map((l, i, all) => [placeX(i / (all.length - 1)), cut(names.layer[l], 14), i === 0 ? "start" : i === all.length - 1 ? "end" : "middle"]);
  svg.append(frame(scale, placeY, [LEFT, WIDE - RIGHT], marks, axis === "step" ? `iteration${log ? ", log scale" : ""}; vertical: ${scale.unit}` : `layer, from input to output; vertical: ${scale.unit}`));
  // Grey ones first, so that colours lie over them; the chosen one last.
  const order = model => model === now.chosen ? 2 : colourOf.get(model) === "other" ? 0 : 1;
  for (const [model, all] of models.sort((a, b) => order(a[0]) - order(b[0]))) {
    const level = axis === "step" && all.every(row => row.step === null);
    const line = axis === "step" ? [...all].sort((a, b) => a.step - b.step) : all;
    const at = line.map((row, i) => ({row, model, x: axis === "step" ? placeX(row.step ?? low) : placeX(line.length > 1 ? i / (line.length - 1) : 0), y: placeY(scale.get(row))}));
    if (level) at.push({...at[0], x: placeX(high)});
    const path = side => at.map((p, i) => `${i ? "L" : "M"}${p.x.toFixed(1)} ${side(p).toFixed(1)}`).join("");
    const end = i => p => placeY(scale.ends(p.row)[i]);
    if ((models.length <= 6 || model === now.chosen) && at.length > 1 && line.every(row => scale.ends(row))) svg.append(draw("path", {class: `band ${look(model)}`,
      d: path(end(1)) + [...at].reverse().map(p => `L${p.x.toFixed(1)} ${end(0)(p).toFixed(1)}`).join("") + "Z"}));
    svg.append(draw("path", {class: `line ${look(model)}`, "data-model": model, d: path(p => p.y)}));
    if (at.length <= 30 && models.length <= COLOURS || at.length === 1)
      for (const p of at) svg.append(draw("circle", {class: `dot ${look(model)}`, cx: p.x, cy: p.y, r: 2.6}));
    points.push(...at);
  }
  return {svg, points, scale, models: models.map(([model]) => model), words: models.length <= 6 ? "Bands: 95 % intervals. " : ""};
};
const bars = list => {
  const scale = scaleOf(list), sorted = scale.known.sort((a, b) => scale.get(a) - scale.get(b) || natural(names.model[a.model], names.model[b.model]));
  const shown = sorted.length > BARS ? [...sorted.slice(0, BARS / 2), null, ...sorted.slice(-BARS / 2)] : sorted;
  const start = WIDE < 400 ? 130 : 150, high = TOP + 18 * shown.length + BOTTOM, bottom = high - BOTTOM, points = [], svg = draw("svg", {viewBox: `0 0 ${WIDE} ${high}`, class: "plot"});
  const place = x => start + (x - scale.least) / (scale.most - scale.least) * (WIDE - start - RIGHT);
  for (const x of ticks(scale.least, scale.most, 5)) svg.append(
    draw("line", {class: "grid", x1: place(x), x2: place(x), y1: TOP, y2: bottom}),
    draw("text", {x: place(x), y: bottom + 14, "text-anchor": "middle"}, scale.text(x)));
  for (const [level, name] of scale.levels) svg.append(
    draw("line", {class: "level", x1: place(level), x2: place(level), y1: TOP - 2, y2: bottom}),
    draw("text", {class: "axis", x: place(level), y: TOP - 4, "text-anchor": level === scale.perfect ? "start" : "middle"}, name));
  shown.forEach((row, i) => {
    const y = TOP + 18 * i + 9;
    if (!row) { svg.append(draw("text", {class: "axis", x: start + 6, y: y + 4}, `… ${sorted.length - BARS} more in between`)); return; }
    const [from, to] = [place(scale.perfect), place(scale.get(row))].sort((a, b) => a - b), ends = scale.ends(row);
    svg.append(draw("text", {x: start - 5, y: y + 4, "text-anchor": "end"}, cut(names.model[row.model], WIDE < 400 ? 20 : 24)),
      draw("rect", {class: `box ${look(row.model)}`, "data-model": row.model, x: from, y: y - 6, width: Math.max(to - from, 1), height: 12}));
    if (ends) svg.append(draw("line", {class: "whisker", x1: place(ends[0]), x2: place(ends[1]), y1: y, y2: y}));
    points.push({row, model: row.model, x: to, y});
  });
  svg.append(draw("text", {class: "axis", x: (start + WIDE) / 2, y: high - 4, "text-anchor": "middle"}, scale.unit));
  return {svg, points, scale, models: distinct(sorted.map(row => row.model)), words: "Thin lines: 95 % intervals. ", named: true};
};
const legend = models => {
  const coloured = modelOrder.filter(model => models.includes(model) && (colourOf.get(model) !== "other" || model === now.chosen));
  const items = coloured.map(model => make("li", {}, make("span", {class: `chip ${look(model)}`}), modelButton(model, 40)));
  const others = models.length - coloured.length;
  if (others) items.push(make("li", {}, make("span", {class: "chip other"}), `${others} other model${others > 1 ? "s" : ""}`));
  return make("ul", {class: "legend"}, ...items);
};
const explorable = ({svg, points}) => {
  const here = draw("circle", {class: "here", r: 5, visibility: "hidden"});
  let at = null;
  const stop = () => { svg.querySelectorAll(".on").forEach(mark => mark.classList.remove("on")); here.setAttribute("visibility", "hidden"); hideTip(); at = null; };
  const go = (point, x, y) => {
    stop();
    at = point;
    svg.querySelector(`[data-model="${point.model}"]`).classList.add("on");
    fill(here, {cx: point.x, cy: point.y, visibility: "visible"}, []);
    const area = svg.getBoundingClientRect(), by = area.width / WIDE;
    showTip(rowTip(point.row), x ?? area.left + point.x * by, y ?? area.top + point.y * by);
  };
  const nearest = e => {
    const area = svg.getBoundingClientRect(), by = WIDE / area.width, [x, y] = [(e.clientX - area.left) * by, (e.clientY - area.top) * by];
    const wide = svg.dataset.kind === "bars" ? 0 : 1, way = p => Math.hypot(wide * (p.x - x), p.y - y);
    const best = points.reduce((a, b) => !a || way(b) < way(a) ? b : a, null);
    return best && way(best) < 40 ? best : null;
  };
  svg.append(here);
  svg.addEventListener("pointermove", e => { const point = nearest(e); if (point) go(point, e.clientX, e.clientY); else stop(); });
  svg.addEventListener("pointerleave", stop);
  svg.addEventListener("blur", stop);
  svg.addEventListener("click", e => { const point = nearest(e); if (point) { stop(); choose(point.model); } });
  svg.addEventListener("keydown", e => {
    const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1}[e.key];
    if (!by || !points.length) return;
    e.preventDefault();
    const sideways = at && ["ArrowRight", "ArrowLeft"].includes(e.key) && svg.dataset.kind !== "bars";
    const list = sideways ? points.filter(p => p.model === at.model) : points;
    // Up and down go to the next model's point that is nearest across.
    if (!at) go(points[0]);
    else if (sideways || svg.dataset.kind === "bars") go(list[Math.min(list.length - 1, Math.max(0, list.indexOf(at) + by))]);
    else {
      const models = distinct(points.map(p => p.model)), model = models.at((models.indexOf(at.model) + by) % models.length), from = at;
      go(points.filter(p => p.model === model).reduce((a, b) => Math.abs(b.x - from.x) < Math.abs(a.x - from.x) ? b : a));
    }
  });
};
const panels = list => {
  const found = [];
  for (const own of byKey(list, row => `${row.measure} ${row.data} ${row.group}`).values()) {
    const ofModel = [...byKey(own, row => row.model).values()];
    const trained = ofModel.some(all => distinct(all.map(row => row.step)).length > 1);
    const single = ofModel.every(all => distinct(all.map(row => row.layer)).length === 1);
    if (!trained && single) found.push({kind: "bars", own});
    else if (!trained) found.push({kind: "layer", own});
    else if (single) found.push({kind: "step", own});
    else for (const part of byKey(own, row => row.layer).values()) found.push({kind: "step", own: part});
  }
  return found;
};
// Over training, the last or the worst layer that the table shows; over depth, all of them.
const ofLastLayer = list => {
  const trained = byKey(list, row => `${row.model} ${row.data} ${row.group} ${row.measure}`), kept = [];
  for (const own of trained.values()) {
    const last = lastStep(own), layer = now.layer === "worst" ? worstOf(last).layer : last.at(-1).layer;
    kept.push(...(distinct(own.map(row => row.step)).length > 1 ? own.filter(row => row.layer === layer) : own));
  }
  return kept;
};
const drawPictures = list => {
  const all = panels(["last", "worst"].includes(now.layer) ? ofLastLayer(list) : list);
  part("pictures").replaceChildren(...all.slice(0, now.pictures).map(({kind, own}) => {
    const measure = own[0].measure, picture = kind === "bars" ? bars(own) : curves(own, kind), missing = own.length - picture.scale.known.length;
    const layers = distinct(own.map(row => row.layer)), of = many.layer && layers.length === 1 ? [names.layer[layers[0]]] : [];
    const where = [names.measure[measure], names.data[own[0].data], names.group[own[0].group], ...of].join(", ");
    picture.svg.dataset.kind = kind;
    fill(picture.svg, {tabindex: 0, role: "group", "aria-label": `${measures[measure].title}, ${where}. Arrow keys select the next value.`}, []);
    explorable(picture);
    return make("figure", {class: kind}, make("h3", {}, measures[measure].title, make("small", {}, where)), picture.svg,
      ...(picture.named && picture.models.length > COLOURS ? [] : [legend(picture.models)]),
      make("figcaption", {}, `${picture.words}Dashed: ${picture.scale.levels.map(([, name]) => name).join(", ")}.${missing ? ` Not drawn: ${missing} without this number.` : ""}`));
  }));
  part("said").textContent = all.length === 0 ? "" : (all.length > now.pictures ? `${now.pictures} of ${all.length} pictures. ` : "")
    + "Point at a line or bar to see its numbers; click it to highlight its model."
    + (names.model.length > COLOURS ? ` The first ${COLOURS} models have a colour each; the others are grey until they are highlighted.` : "");
  part("more-pictures").hidden = all.length <= now.pictures;
  part("more-pictures").textContent = `Show ${Math.min(PICTURES, all.length - now.pictures)} more pictures`;
};
part("more-pictures").addEventListener("click", () => { now.pictures += PICTURES; drawPictures(chosenRows()); });

const drawAll = () => {
  const list = chosenRows();
  hideTip();
  drawTable(list);
  drawPictures(list);
};
root.hidden = false;
drawAll();
