// Without scripts the page still works: tables are unsorted, pictures have the browser's own tooltips.
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
// No line ends between a number and its per cent sign.
const whole = text => text.split(/(\d[\d.]* %)/).map((part, i) => i % 2 ? make("span", {class: "nb"}, part) : part);

// One tooltip for dots, cells and thumbnails.
const tip = make("div", {id: "tip", role: "status", hidden: ""});
document.body.append(tip);
for (const title of document.querySelectorAll("figure svg title")) {
  title.parentElement.dataset.tip = title.textContent;
  title.remove();
}
const cellAt = (image, x, y) => {
  const cells = image.cells ??= JSON.parse(image.dataset.cells), box = image.getBoundingClientRect();
  const part = (at, start, size, n) => Math.min(n - 1, Math.max(0, Math.floor((at - start) / size * n)));
  const row = part(y, box.top, box.height, cells.rows.length);
  const column = part(x, box.left, box.width, cells.columns.length);
  return {tip: `${cells.rows[row]}, ${cells.columns[column]}: ${cells.values[row][column]}`,
    model: cells.models?.[row] ?? cells.model, layer: cells.layers ? cells.layers[row] ?? undefined : cells.rows[row],
    element: cells.elements[column]};
};
const markAt = (target, x, y) => {
  const image = target.closest?.("[data-cells]");
  if (image) return cellAt(image, x, y);
  const {tip, model, layer, element, sample} = target.closest?.("[data-tip]")?.dataset ?? {};
  return tip === undefined ? undefined : {tip, model, layer,
    element: element && Number(element), sample: sample && Number(sample)};
};
const showTip = (text, x, y) => {
  tip.replaceChildren(...whole(text));
  tip.hidden = false;
  const {offsetWidth: w, offsetHeight: h} = tip, gap = 12;
  tip.style.left = `${Math.max(4, Math.min(x + gap, document.documentElement.clientWidth - w - 4))}px`;
  tip.style.top = `${y + gap + h > innerHeight ? y - gap - h : y + gap}px`;
};
document.addEventListener("pointermove", e => {
  const mark = markAt(e.target, e.clientX, e.clientY);
  if (mark) showTip(mark.tip, e.clientX, e.clientY); else tip.hidden = true;
});
document.addEventListener("focusin", e => {
  const text = e.target.dataset?.tip ?? e.target.dataset?.told, box = e.target.getBoundingClientRect?.();
  if (text && e.target.matches(":focus-visible")) showTip(text, box.left, box.bottom); else tip.hidden = true;
});
document.addEventListener("keydown", e => { if (e.key === "Escape") tip.hidden = true; });

// Dots and cells of a picture are one stop of the tabulator; arrows go on, Enter is a click.
for (const figure of document.querySelectorAll("figure")) {
  const first = figure.querySelector("svg :is([data-tip], [data-cells])");
  if (!first) continue;
  first.closest("[role=img]")?.setAttribute("role", "group");
  first.setAttribute("tabindex", "0");
  let cell = 0;
  const told = on => on.dataset.tip ?? on.dataset.told;
  const enter = (on, step) => {
    const image = on.dataset.cells && JSON.parse(on.dataset.cells), box = on.getBoundingClientRect();
    let [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    if (image) {
      const n = image.columns.length, next = cell + (Math.abs(step) > 1 ? Math.sign(step) * n : step);
      if (next >= 0 && next < n * image.rows.length) cell = next;
      x = box.left + box.width * (cell % n + .5) / n;
      y = box.top + box.height * (Math.floor(cell / n) + .5) / image.rows.length;
      on.dataset.told = cellAt(on, x, y).tip;
    }
    on.setAttribute("role", document.getElementById("explore-data") ? "button" : "img");
    on.setAttribute("aria-label", told(on));
    return [x, y];
  };
  enter(first, 0);
  figure.addEventListener("keydown", e => {
    const on = document.activeElement, marks = [...figure.querySelectorAll("svg :is([data-tip], [data-cells])")];
    const at = marks.indexOf(on), step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -2, ArrowDown: 2}[e.key];
    if (at < 0) return;
    if (e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      const [clientX, clientY] = enter(on, 0);
      on.dispatchEvent(new MouseEvent("click", {bubbles: true, clientX, clientY}));
    } else if (step) {
      e.preventDefault();
      const next = on.dataset.cells ? on : marks[at + Math.sign(step)] ?? on;
      on.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      const [x, y] = enter(next, next === on ? step : 0);
      next.focus();
      showTip(told(next), x, y);
    }
  });
}
document.addEventListener("scroll", () => { tip.hidden = true; }, {passive: true});

// The number of a cell, however it is written: "cosine 0.35", "6.7·10⁻⁸ nats", "less than 0.1 %"; what stands small below it is no part.
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const numberIn = cell => {
  const text = [...cell.childNodes].filter(node => node.nodeType === Node.TEXT_NODE || node.className === "nb").map(node => node.textContent).join(" ").replace(/\u2212/g, "-");
  const [, number, raised] = text.match(/(-?\d[\d.]*(?:e[-+]?\d+)?)(?:·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?/) ?? [];
  const power = raised ? Number(raised.replace(/[⁰¹²³⁴⁵⁶⁷⁸⁹]/g, digit => RAISED.indexOf(digit)).replace("⁻", "-")) : 0;
  // What is less than a number comes before that number.
  return number === undefined ? NaN : Number(number) * 10 ** power * (/less than|</.test(text) ? .5 : 1);
};
const natural = new Intl.Collator(undefined, {numeric: true}).compare;

// A click on a heading sorts its table; a box searches it by layer or measure. What has no value comes last both ways.
// Of thousands of rows a browser lays out some hundreds at once, until all are asked for.
const ROWS = 200;
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].textContent.trim();
  const more = make("button", {type: "button", class: "more"});
  let order = rows, wanted = "", most = ROWS;
  const drawRows = () => {
    const found = wanted ? order.filter(row => `${value(row, 0)} ${value(row, 1)}`.toLowerCase().includes(wanted)) : order;
    body.replaceChildren(...found.slice(0, most));
    more.hidden = found.length <= most;
    more.textContent = `Show all ${found.length} rows`;
  };
  if (rows.length > ROWS) {
    table.parentElement.after(more);
    const showAll = () => { most = Infinity; drawRows(); };
    more.addEventListener("click", showAll);
    addEventListener("beforeprint", showAll);
    drawRows();
  }
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keys = new Map(rows.map(row => [row, head.matches(".n") ? numberIn(row.cells[i]) : value(row, i)]));
      const known = key => key !== "" && !Number.isNaN(key);
      order = [...rows].sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (!known(x) || !known(y)) return known(y) - known(x);
        const apart = typeof x === "number" ? x - y : natural(x, y);
        return down ? -apart : apart;
      });
      drawRows();
    });
  });
  if (rows.length > 12) {
    const box = document.createElement("input");
    box.type = "search";
    box.placeholder = "Search layers or measures";
    box.setAttribute("aria-label", "Show only rows that contain");
    box.addEventListener("input", () => {
      wanted = box.value.toLowerCase();
      drawRows();
    });
    table.parentElement.before(box);
  }
}

// Of many results a section shows one, which a select chooses; without scripts each is folded under its name.
for (const section of document.querySelectorAll("[data-choose]")) {
  const parts = [...section.querySelectorAll(":scope > details")];
  if (parts.length < 2) continue;
  const select = make("select", {"data-key": "shown"}, ...parts.map((part, i) => make("option", {value: i}, part.firstElementChild.textContent)));
  const show = () => parts.forEach((part, i) => { part.hidden = i !== Number(select.value); });
  parts.forEach(part => { part.open = true; part.firstElementChild.hidden = true; });
  select.addEventListener("change", show);
  section.querySelector("h2").after(make("div", {class: "choice"}, make("label", {}, `${section.dataset.choose} `, select)));
  show();
}

// The explorer shows what was measured for a chosen sample, element and layer.
const source = document.getElementById("explore-data");
if (source) {
  const {models, pictures, scale} = JSON.parse(source.textContent), root = document.getElementById("explore");
  const now = {model: 0, sample: 0, element: 0, layer: 0};
  const percent = p => `${(100 * p).toFixed(p > 0 && p < .01 ? 2 : 0)} %`;
  const of = () => {
    const model = models[now.model], sample = model.samples[now.sample];
    return {model, sample, layer: model.layers[now.layer]};
  };
  const named = (model, id) => model.classes[id] ?? `class ${id}`;
  const picture = (model, sample, i) => {
    const shown = pictures[`${model.of} ${sample.index}`]?.[i], holder = make("span", {class: "moved"});
    for (const src of shown?.images ?? []) holder.append(make("img", {src, alt: ""}));
    for (const svg of shown?.drawings ?? []) holder.insertAdjacentHTML("beforeend", svg);
    return holder;
  };
  const put = (id, ...children) => root.querySelector(`[data-part="${id}"]`).replaceChildren(...children);
  const choose = (label, names, key) => {
    const select = make("select", {"data-key": key});
    names.forEach((name, i) => select.append(make("option", {value: i}, name)));
    select.value = now[key];
    select.addEventListener("change", () => go({[key]: Number(select.value), ...(key === "sample" && {element: undefined})}));
    return make("label", {}, `${label} `, select);
  };
  // Arrows go from button to button: one stop of the tabulator each.
  const roving = (part, columns, at, chosen) => {
    const holder = root.querySelector(`[data-part="${part}"]`), buttons = [...holder.querySelectorAll("button")];
    buttons.forEach((button, i) => { button.tabIndex = i === at ? 0 : -1; button.setAttribute("aria-pressed", i === at); });
    const chosenBox = buttons[at]?.getBoundingClientRect(), box = holder.getBoundingClientRect();
    if (chosenBox && (chosenBox.right > box.right || chosenBox.left < box.left))
      holder.scrollLeft += chosenBox.left - box.left - box.width / 2 + chosenBox.width / 2;
    holder.onkeydown = e => {
      const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[e.key];
      const next = step && buttons.indexOf(document.activeElement) + step;
      if (!step || !buttons[next]) return;
      e.preventDefault();
      chosen(next);
      buttons[next].focus();
    };
  };

  function drawChoice() {
    const {model} = of(), rows = [];
    if (models.length > 1) rows.push(choose("Model", models.map(m => m.model), "model"));
    rows.push(choose("Sample", model.samples.map(s => `${s.name}: ${s.value}`), "sample"));
    rows.push(choose(model.noun, model.names, "element"));
    if (model.layers.length) rows.push(choose("Layer", model.layers.map(l => l.layer), "layer"));
    rows.push(make("span", {class: "soft"}, `sorted by ${model.by} (${model.unit})`));
    const focused = document.activeElement?.dataset?.key;
    put("choice", ...rows);
    if (focused) root.querySelector(`select[data-key="${focused}"]`)?.focus();
    put("moved-title", model.samples.some(sample => sample.top.length) ? "The moved sample, and its predicted class" : "The moved sample");
  }
  function drawSamples() {
    const {model} = of();
    put("samples", ...model.samples.map((sample, i) => {
      const button = make("button", {type: "button", "aria-label": `${sample.name}: ${sample.value} ${model.unit}`,
        "data-tip": `${sample.name}: ${sample.value} ${model.unit}`}, picture(model, sample, model.elements.indexOf(0)), sample.value);
      button.addEventListener("click", () => go({sample: i, element: undefined}));
      return button;
    }));
  }
  function drawMoved() {
    const {model, sample} = of();
    put("moved", ...model.names.map((name, i) => {
      const top = sample.top[i] ?? [], flipped = top.length && sample.expected && top[0][0] !== sample.expected[i];
      const told = top.map(([id, p]) => `${named(model, id)} ${percent(p)}`);
      const button = make("button", {type: "button", class: flipped ? "flipped" : "",
        "data-tip": [`${sample.name}, ${name}`, ...told].join("\n")},
        picture(model, sample, i), make("b", {}, name));
      if (top.length) button.append(make("span", {class: "class"}, `${named(model, top[0][0])}`), make("span", {class: "nb"}, percent(top[0][1])));
      button.addEventListener("click", () => go({element: i}));
      return button;
    }));
  }
  function drawGrid() {
    const {model, sample} = of();
    root.querySelector(".duo").hidden = root.querySelector('[data-part="hint"]').parentElement.hidden = !model.layers.length;
    if (!model.layers.length) return;
    put("left", model.left);
    put("grid-title", model.title);
    put("hint", model.hint);
    const table = make("table", {class: "cells"}), head = make("tr", {}, make("td"));
    model.names.forEach(name => head.append(make("th", {scope: "col"}, name)));
    table.append(make("thead", {}, head));
    const body = make("tbody");
    model.layers.forEach((layer, l) => {
      const row = make("tr", {}, make("th", {scope: "row"}, layer.layer));
      sample.told[l].forEach((value, i) => {
        const {colours, perfect, worst} = scale, far = (perfect - Number(value.replace("\u2212", "-"))) / (perfect - worst);
        const shade = Number.isFinite(far) ? Math.round((colours.length - 1) * Math.min(1, Math.max(0, far))) : 0;
        const button = make("button", {type: "button",
          "data-tip": `${layer.layer}, ${model.names[i]}: cosine ${value}`, "aria-label": `${layer.layer}, ${model.names[i]}, cosine ${value}`}, value);
        button.style.background = colours[shade];
        button.style.color = shade < .55 * colours.length ? "#000" : "#fff";
        button.addEventListener("click", () => go({layer: l, element: i}));
        row.append(make("td", {}, button));
      });
      body.append(row);
    });
    table.append(body);
    put("grid", table);
  }
  function press() {
    const n = of().model.names.length;
    for (const select of root.querySelectorAll("select")) select.value = now[select.dataset.key];
    roving("samples", 1, now.sample, i => go({sample: i, element: undefined}));
    roving("moved", n, now.element, i => go({element: i}));
    roving("grid", n, now.layer * n + now.element, at => go({layer: Math.floor(at / n), element: at % n}));
  }
  function drawMaps() {
    const {model, sample, layer} = of();
    if (!layer) return put("maps");
    const n = model.names.length, url = `url(data:image/png;base64,${sample.maps[now.layer]})`, rows = 2 * layer.channels.length;
    const map = (row, what) => {
      const one = make("div", {class: "map", role: "img", "aria-label": what});
      one.style.backgroundImage = url;
      one.style.aspectRatio = `${layer.size[1]} / ${layer.size[0]}`;
      one.style.backgroundSize = `${100 * n}% ${100 * rows}%`;
      one.style.backgroundPosition = `${n > 1 ? 100 * now.element / (n - 1) : 0}% ${rows > 1 ? 100 * row / (rows - 1) : 0}%`;
      return make("figure", {}, one, make("figcaption", {}, what));
    };
    put("maps", ...(layer.reading ? [make("p", {class: "reading"}, layer.reading)] : []), ...layer.channels.map((channel, c) => make("div", {class: "pair"},
      make("p", {}, make("b", {}, c ? "Median channel" : layer.channels.length > 1 ? "Worst channel" : "The only channel"),
        ` ${layer.channels.length > 1 ? `over all ${model.over} (channel ${channel}), here ` : ""}cosine ${sample.cosines[now.layer][now.element][c].toFixed(3).replace("-", "−")}`),
      map(2 * c, "f(gx): map of the moved sample"), map(2 * c + 1, layer.beside))));
  }
  function say(extra = "") {
    const {model, sample, layer} = of(), top = sample.top[now.element] ?? [];
    const first = sample.top[model.elements.indexOf(0)]?.[0];
    const name = model.names[now.element];
    const start = model.names[model.elements.indexOf(0)], before = start === "unmoved" ? "before moving" : `at the ${start}`;
    let text = `${models.length > 1 ? `${model.model}: ` : ""}${sample.name}, ${name === start ? name : `moved by ${model.told[now.element]}`}`;
    if (top.length) {
      text += `: predicted ${named(model, top[0][0])} (${percent(top[0][1])})`;
      const moved = sample.expected?.[now.element] ?? first[0], other = `; ${before}: ${named(model, first[0])} (${percent(first[1])})`;
      if (name !== start && moved === first[0]) text += top[0][0] === moved ? `, the same class as ${before}` : other;
      else if (name !== start) text += `${other}, so ${named(model, moved)} is expected`;
    }
    if (layer) text += `. ${layer.layer}: mean cosine ${sample.told[now.layer][now.element]} over all channels`;
    put("said", ...whole(`${extra}${text}.`));
  }
  // Only what changes is drawn again, so that the focus stays where it is.
  let drawn = {};
  function go(to, extra = "") {
    if (to.model !== undefined && to.model !== now.model) {
      const {sample, layer} = of(), name = layer?.layer;
      now.model = to.model;
      const {model} = of(), at = model.samples.findIndex(s => s.index === sample.index);
      now.sample = at < 0 || models.length < 2 ? 0 : at;
      now.layer = Math.max(0, model.layers.findIndex(l => l.layer === name));
      now.element = Math.min(now.element, model.names.length - 1);
    }
    for (const key of ["sample", "layer", "element"]) if (to[key] !== undefined) now[key] = to[key];
    const {model, sample} = of();
    if ("element" in to && to.element === undefined) now.element = Math.max(0, model.elements.indexOf(sample.worst));
    if (now.model !== drawn.model) { drawChoice(); drawSamples(); }
    if (now.model !== drawn.model || now.sample !== drawn.sample) { drawMoved(); drawGrid(); }
    drawn = {...now};
    press(); drawMaps(); say(extra);
  }
  const nearest = (elements, g) => elements.reduce((best, e, i) => Math.abs(e - g) < Math.abs(elements[best] - g) ? i : best, 0);
  const jump = mark => {
    const m = models.findIndex(one => one.model === mark.model);
    if (m < 0) return;
    const model = models[m], to = {model: m};
    let extra = "";
    if (mark.layer !== undefined) {
      const l = model.layers.findIndex(one => one.layer === mark.layer);
      if (l >= 0) to.layer = l; else if (mark.sample === undefined) extra = `This page has no maps of ${mark.layer} in ${mark.model}. `;
    }
    if (mark.sample !== undefined) {
      const s = model.samples.findIndex(one => one.at === mark.sample);
      if (s >= 0) to.sample = s; else extra = "This page does not hold this sample (--samples-shown keeps more of them). ";
      if (mark.element === undefined && s >= 0) to.element = undefined;
    }
    if (mark.element !== undefined) to.element = nearest(model.elements, mark.element);
    go(to, extra);
    root.scrollIntoView({block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
  };
  document.addEventListener("click", e => {
    if (root.contains(e.target)) return;
    const mark = markAt(e.target, e.clientX, e.clientY);
    if (mark?.model !== undefined) jump(mark);
  });
  for (const thumbnail of document.querySelectorAll("li[data-sample]")) {
    thumbnail.tabIndex = 0;
    thumbnail.setAttribute("role", "button");
    thumbnail.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); thumbnail.click(); } });
  }
  document.body.classList.add("explorable");
  root.hidden = false;
  go({sample: 0, element: undefined, layer: models[0].worst});
}
