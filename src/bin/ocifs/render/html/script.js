"use strict";
// What is convenient and not needed: tables that sort and filter, a tree that is filtered and opened as a whole.
(function () {
  const make = (name, words, attributes) => {
    const element = document.createElement(name);
    element.textContent = words;
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return element;
  };
  const tools = (before, label, filter) => {
    const box = make("div", "", { class: "tools" });
    const input = make("input", "", { type: "search", "aria-label": label, placeholder: "filter", autocomplete: "off", spellcheck: "false" });
    const told = make("output", "");
    input.addEventListener("input", () => { told.textContent = filter(input.value.toLowerCase()); });
    box.append(input, told);
    before.before(box);
    return box;
  };

  const value = (row, at) => {
    const cell = row.cells[at];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    // Empty cells stand together.
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? 1 : -1;
    return a < b ? -1 : a > b ? 1 : 0;
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    if (rows.length < 2) continue;
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, at) => {
      const button = make("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numbers = head.classList.contains("n");
        const was = head.getAttribute("aria-sort");
        const next = was === null ? (numbers ? "descending" : "ascending") : was === "ascending" ? "descending" : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const sorted = rows.slice().sort((a, b) => sign * compare(value(a, at), value(b, at)));
        body.append(...sorted);
      });
    });
    if (rows.length < 8) continue;
    tools(table.closest(".scroll"), "Filter the rows: " + table.caption.textContent, (wanted) => {
      let shown = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        if (!row.hidden) shown += 1;
      }
      return wanted ? shown + " of " + rows.length + " rows" : "";
    });
  }

  for (const tree of document.querySelectorAll(".tree")) {
    const items = Array.from(tree.querySelectorAll("li"));
    const folds = Array.from(tree.querySelectorAll("details"));
    const atFirst = folds.map((fold) => fold.open);
    const box = tools(tree, "Filter the changes by path", (wanted) => {
      folds.forEach((fold, at) => { fold.open = wanted ? fold.classList.contains("dir") : atFirst[at]; });
      let shown = 0;
      // Those below come first: what holds one that is shown is shown.
      for (const item of items.slice().reverse()) {
        const own = (item.dataset.path || "").toLowerCase().includes(wanted);
        const below = item.querySelector("li:not([hidden])") !== null;
        item.hidden = !(own || below);
        if (own) shown += 1;
      }
      return wanted ? shown + " of " + items.length + " rows" : "";
    });
    for (const [words, open] of [["Open all", true], ["Close all", false]]) {
      const button = make("button", words, { type: "button" });
      button.addEventListener("click", () => { for (const fold of folds) fold.open = open; });
      box.append(button);
    }
  }

  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    for (const fold of closed) fold.open = true;
  });
  window.addEventListener("afterprint", () => { for (const fold of closed) fold.open = false; });
})();
