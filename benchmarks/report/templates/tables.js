// Tables: sorted by a click on a heading, filtered by buttons, drawn a few rows at a time however long they are.
const A_SCREEN = 200;

/** A row that stands in the page. */
const standing = (element) => ({
  family: element.dataset.family ?? "", backbone: element.dataset.backbone ?? "",
  element: () => element,
  order: (column) => {
    const cell = element.cells[column];
    return cell.dataset.order === undefined ? cell.textContent.trim() : Number(cell.dataset.order);
  },
});

/** A text as it is, or by its place in the page's words. */
const WORDS = [...(COLUMNS.label ?? []), ...(DATA.words ?? [])];
const word = (text) => (typeof text === "number" ? WORDS[text] : text);

/** A row from its entries: texts, or [text, order, detail, tone, family, folded]. */
const packed = ([family, backbone, ...entries], headings) => {
  const fields = entries.map((entry) => (Array.isArray(entry) ? entry.map((field, place) => (place === 1 ? field : word(field))) : [word(entry)]));
  let made = null;
  return {
    family: word(family), backbone: word(backbone),
    element: () => (made ??= make("tr", {}, ...fields.map((entry, column) => cellOf(entry, headings[column])))),
    order: (column) => fields[column][1] ?? fields[column][0],
  };
};

const cellOf = ([text, , detail = "", tone = "", family = "", folded = "", action = null], heading) => {
  const isName = heading.dataset.name === "configuration";
  const classes = [heading.classList.contains("number") ? "number" : "", tone ? `tone-${tone}` : ""].filter(Boolean).join(" ");
  const cell = make(isName ? "th" : "td", { class: classes, scope: isName ? "row" : null });
  const kind = DATA.families.find((one) => one.key === family);
  const glyph = kind ? [glyphOf(kind), " "] : [];
  if (action) {
    const button = make("button", { type: "button", class: "name" }, ...glyph, unbroken(text));
    button.addEventListener("click", action);
    cell.append(button);
  } else cell.append(...glyph);
  if (action) return cell;
  if (folded) cell.append(make("details", { class: "within" }, make("summary", {}, text), folded));
  else cell.append(tone === "code" ? make("code", {}, text) : unbroken(text));
  if (detail) cell.append(make("small", {}, detail));
  return cell;
};

/** What the ranked table shows of a configuration, by the name of the column. */
const ESSENTIALS = {
  rank: (row, place) => [String(place + 1), place + 1],
  configuration: (row) => [valueOf("label", row), null, "", "", DATA.families[valueOf("family", row)].key, "", () => showDetails(row)],
  "NDCG@10": (row) => numberOf("ndcg@10", row),
  "kept of its backbone's full history": (row) => {
    const [text, value, bounds, tone] = numberOf("retention", row);
    const marked = value !== null && valueOf("unequal", row) && valueOf("compression", row) !== "full";
    return marked ? [`${text} \u2021`, value, bounds, "warn"] : [text, value, bounds, tone];
  },
  request: (row) => numberOf("serve_flops", row),
  "latency p50": (row) => numberOf("request_latency_p50_ms", row),
  "backbone p50": (row) => numberOf("serve_latency_p50_ms", row, false),
  "stored per user": (row) => numberOf("cache_bytes", row),
  refresh: (row) => numberOf("compress_flops", row),
  "on the frontier": (row) => {
    const chance = valueOf("chance:serve_flops", row);
    return [chance === null ? MISSING : percent(chance), chance, "", chance === null ? "muted" : valueOf("on:serve_flops", row) ? "good" : ""];
  },
  seeds: (row) => [valueOf("ended", row), null, "", valueOf("failed", row) ? "warn" : ""],
};
const numberOf = (name, row, bounds = true) => {
  const value = valueOf(name, row);
  return [written(name, value), value, value === null || !bounds ? "" : interval(name, row), value === null ? "muted" : ""];
};
const ranked = (group, headings) => {
  const members = [...Array(ROWS).keys()].filter((row) => valueOf("group", row) === group);
  return members.map((row, place) => {
    const kind = DATA.families[valueOf("family", row)].name;
    return packed([kind, valueOf("floor", row) ? "" : valueOf("backbone", row),
      ...headings.map((heading) => ESSENTIALS[heading.dataset.name]?.(row, place) ?? "")], headings);
  });
};

/** Says below a table what of it lies outside of its box, and how to get there; nothing where all of it is to be seen. */
const hinted = (box) => {
  const hint = make("p", { class: "hint" });
  box.after(hint);
  new ResizeObserver(() => {
    const more = [box.scrollWidth > box.clientWidth + 1 ? "columns to the right" : "", box.scrollHeight > box.clientHeight + 1 ? "rows below" : ""].filter(Boolean);
    hint.hidden = !more.length;
    hint.textContent = more.length ? `More ${more.join(" and ")}: scroll inside the table, or use the arrow keys once it has the focus.` : "";
  }).observe(box.firstElementChild);
  return box;
};

const compare = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b, "en", { numeric: true });
};

/** Buttons that keep the rows of one family or backbone. */
const filterBar = (rows, changed) => {
  const chosen = {};
  const bar = make("div", { class: "filters", role: "group", "aria-label": "Filter" });
  for (const [name, every] of [["family", "every family"], ["backbone", "every backbone"]]) {
    const values = [...new Set(rows.map((row) => row[name]).filter(Boolean))];
    if (values.length < 2) continue;
    for (const value of [null, ...values]) {
      const button = make("button", { type: "button", "aria-pressed": String(value === null) }, value ?? every);
      button.addEventListener("click", () => {
        chosen[name] = value;
        for (const other of bar.querySelectorAll(`[data-filter=${name}]`)) other.setAttribute("aria-pressed", String(other === button));
        changed();
      });
      button.dataset.filter = name;
      bar.append(button);
    }
    bar.append(make("span", { class: "gap" }));
  }
  return { bar, keeps: (row) => Object.entries(chosen).every(([name, value]) => !value || row[name] === value) };
};

const enliven = (holder) => {
  const body = holder.querySelector("tbody");
  const headings = [...holder.querySelectorAll("thead th")];
  const rest = holder.querySelector("script");
  const least = Math.max(body.rows.length, 1);
  const rows = "drawn" in holder.dataset
    ? ranked(Number(holder.dataset.drawn), headings)
    : [...[...body.rows].map(standing), ...(rest ? JSON.parse(rest.textContent) : []).map((row) => packed(row, headings))];
  let limit = Math.min(least, A_SCREEN);
  let sorting = null;
  const more = make("button", { type: "button", class: "more" });
  const said = make("p", { class: "more-rows", role: "status" });
  const show = () => {
    let kept = rows.filter(filters.keeps);
    if (sorting) {
      const sign = sorting.descending ? -1 : 1;
      kept = kept.map((row) => [row.order(sorting.column), row]).sort(([x], [y]) => (typeof x === typeof y ? sign * compare(x, y) : compare(x, y)))
        .map(([, row]) => row);
    }
    body.replaceChildren(...kept.slice(0, limit).map((row) => row.element()));
    const left = kept.length - Math.min(limit, kept.length);
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(left, A_SCREEN)} more of ${left}`;
    said.textContent = rows.length > least || kept.length < rows.length ? `${kept.length} of ${rows.length} rows match` : "";
  };
  const filters = "filters" in holder.dataset && rows.length > 1 ? filterBar(rows, show) : { bar: null, keeps: () => true };
  more.addEventListener("click", () => {
    limit += A_SCREEN;
    show();
  });
  headings.forEach((heading, column) => {
    const button = make("button", { type: "button" });
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      sorting = before === "descending" ? null : { column, descending: before === "ascending" };
      if (sorting) heading.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
      show();
    });
  });
  holder.querySelector(".without-scripts")?.remove();
  if (filters.bar?.children.length) holder.prepend(filters.bar);
  holder.querySelector(".scroll").after(more, said);
  hinted(holder.querySelector(".scroll"));
  show();
};
