"use strict";
for (const holder of document.querySelectorAll(".table")) {
  const body = holder.querySelector("tbody");
  const original = [...body.rows];
  const headings = [...holder.querySelectorAll("thead th")];

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.order === undefined ? cell.textContent.trim() : Number(cell.dataset.order);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (before === "descending") {
        body.append(...original);
        return;
      }
      const sign = before === "ascending" ? -1 : 1;
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...[...original].sort((a, b) => {
        const [x, y] = [valueOf(a, column), valueOf(b, column)];
        return typeof x === typeof y ? sign * compare(x, y) : compare(x, y);
      }));
    });
  });

  if (!("filters" in holder.dataset) || original.length < 2) continue;
  const chosen = {};
  const bar = document.createElement("div");
  bar.className = "filters";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Filter");
  const apply = () => {
    for (const row of original) {
      row.hidden = Object.entries(chosen).some(([name, value]) => value !== null && row.dataset[name] !== value);
    }
    for (const button of bar.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(chosen[button.dataset.name] === (button.dataset.value ?? null)));
    }
  };
  const add = (name, value, text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.dataset.name = name;
    if (value !== null) button.dataset.value = value;
    button.addEventListener("click", () => {
      chosen[name] = value;
      apply();
    });
    bar.append(button);
  };
  for (const [name, every] of [["family", "every family"], ["backbone", "every backbone"]]) {
    const values = [...new Set(original.map((row) => row.dataset[name]).filter(Boolean))];
    if (values.length < 2) continue;
    chosen[name] = null;
    add(name, null, every);
    values.forEach((value) => add(name, value, value));
    const gap = document.createElement("span");
    gap.className = "gap";
    bar.append(gap);
  }
  if (bar.children.length) {
    holder.prepend(bar);
    apply();
  }
}
