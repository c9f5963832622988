// Tables sort by a click on a heading and are searched by layer; without scripts they stand as they are.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].textContent.trim().replace(/\u2212/g, "-");
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [value(a, i), value(b, i)], [p, q] = [parseFloat(x), parseFloat(y)];
        const order = isNaN(p) || isNaN(q) ? x.localeCompare(y, undefined, {numeric: true}) : p - q;
        return down ? -order : order;
      });
      body.append(...sorted);
    });
  });
  if (rows.length > 12) {
    const box = document.createElement("input");
    box.type = "search";
    box.placeholder = "Show layers or measures with …";
    box.setAttribute("aria-label", "Show only rows that contain");
    box.addEventListener("input", () => {
      const wanted = box.value.toLowerCase();
      rows.forEach(row => { row.hidden = !`${value(row, 0)} ${value(row, 1)}`.toLowerCase().includes(wanted); });
    });
    table.parentElement.before(box);
  }
}
