// The frontier as a figure to ask: a panel per backbone with the same axes, any cost and quality, one family lit at a time.
const QUALITIES = { "ndcg@10": "NDCG@10", "recall@10": "Recall@10", retention: "quality kept of its backbone's full history" };
const [RANKED_BY] = Object.keys(QUALITIES);
const SIZE = { width: 480, height: 320, left: 52, right: 14, top: 14, bottom: 40 };
const INSIDE = { width: SIZE.width - SIZE.left - SIZE.right, height: SIZE.height - SIZE.top - SIZE.bottom };

const nice = (low, high, most) => {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((lead) => lead * power >= rough) ?? 10);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return ticks;
};
const decades = (low, high) => {
  for (const leads of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const lead of leads) if (lead * 10 ** power >= low && lead * 10 ** power <= high) ticks.push(lead * 10 ** power);
    }
    if (ticks.length <= 6) return ticks.length > 1 ? ticks : nice(low, high, 4);
  }
  return nice(low, high, 4);
};

/** Bytes stand at powers of two. */
const binary = (low, high) => {
  for (let step = 1; step <= 10; step += 1) {
    const ticks = [];
    for (let power = Math.ceil(Math.log2(low) / step); power * step <= Math.log2(high); power += 1) ticks.push(2 ** (power * step));
    if (ticks.length <= 6) return ticks.length > 1 ? ticks : nice(low, high, 4);
  }
  return nice(low, high, 4);
};

/** A tick's cost without zeros that say nothing. */
const tickText = (name, value) => written(name, value).replace(/^([\d,]+)\.(\d*?)0+(?= )/, (all, whole, rest) => (rest ? `${whole}.${rest}` : whole));

/** Both axes of all panels: the least and largest values of what is shown, with room. */
const axesOf = (points, logarithmic, bytes) => {
  const costs = points.flatMap((p) => [p.x, p.xLow ?? p.x, p.xHigh ?? p.x]);
  const positive = costs.filter((cost) => cost > 0);
  const [low, high] = positive.length ? [Math.min(...positive), Math.max(...positive)] : [1, 10];
  const log = logarithmic && low > 0;
  const room = log ? Math.max((high / low) ** 0.07, 1.1) : (high - Math.min(low, ...costs)) * 0.06 || 1;
  const zero = log && positive.length < costs.length;
  const left = log ? low / room ** (zero ? 4 : 1) : Math.max(0, Math.min(...costs) - room);
  const right = log ? high * room : high + room;
  const scale = log ? Math.log10 : (value) => value;
  const x = (value) => SIZE.left + (INSIDE.width * (scale(Math.max(value, left)) - scale(left))) / (scale(right) - scale(left) || 1);
  const qualities = points.flatMap((p) => [p.y, p.yLow ?? p.y, p.yHigh ?? p.y]);
  const span = Math.max(...qualities) - Math.min(...qualities);
  const bottom = Math.max(0, Math.min(...qualities) - (0.08 * span || 0.01));
  const top = Math.max(...qualities) + (0.1 * span || 0.01);
  const y = (value) => SIZE.top + (INSIDE.height * (top - value)) / (top - bottom);
  return { x, y, xTicks: [...(zero ? [0] : []), ...(log ? (bytes ? binary : decades)(low, right) : nice(left, right, 4))], yTicks: nice(bottom, top, 5) };
};

/** What no other point beats in cost and quality, cheapest first. */
const frontierOf = (points) => {
  const kept = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) if (!kept.length || point.y > kept.at(-1).y) kept.push(point);
  return kept;
};
const steps = (points, { x, y }) => {
  if (!points.length) return "";
  const along = points.map((p, place) => (place ? `H${x(p.x).toFixed(1)}V${y(p.y).toFixed(1)}` : `M${x(p.x).toFixed(1)} ${y(p.y).toFixed(1)}`));
  return `${along.join("")}H${SIZE.width - SIZE.right}`;
};

const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
/** Writes what fits: each label takes the first free place around its point, or is left out. */
const labelsOf = (svg, labelled, { x, y }, marks, lines) => {
  const taken = marks.map((p) => {
    const half = valueOf("role", p.row) ? 10 : 5;
    return { x: x(p.x) - half, y: y(p.y) - half, w: 2 * half, h: 2 * half };
  });
  for (const line of lines) {
    line.forEach((p, place) => {
      const right = place + 1 < line.length ? x(line[place + 1].x) : SIZE.width - SIZE.right;
      taken.push({ x: x(p.x), y: y(p.y) - 0.5, w: right - x(p.x), h: 1 });
    });
  }
  const named = [];
  for (const { point, text, always } of labelled) {
    if (!always && named.some((other) => Math.hypot(x(other.x) - x(point.x), y(other.y) - y(point.y)) < 2)) continue; // one of those in one place
    named.push(point);
    const [w, h, px, py] = [text.length * 5.6 + 4, 13, x(point.x), y(point.y)];
    const off = valueOf("role", point.row) ? 12 : 7;
    const places = [0, 8, 20, 34, 50].flatMap((far) => [
      [off + far, -h / 2], [-w - off - far, -h / 2], [-w / 2, -h - off - far], [-w / 2, off + far], [off + far, -h - off - far],
      [off + far, off + far], [-w - off - far, -h - off - far], [-w - off - far, off + far]]);
    const fits = places.map(([dx, dy]) => ({ x: px + dx, y: py + dy, w, h }))
      .filter((box) => box.x > SIZE.left && box.x + w < SIZE.width && box.y > 0 && box.y + h < SIZE.height - SIZE.bottom);
    const box = fits.find((candidate) => !taken.some((other) => overlap(candidate, other))) ?? (always ? fits[0] : null);
    if (!box) continue;
    taken.push(box);
    const [nearX, nearY] = [Math.min(Math.max(px, box.x), box.x + w), Math.min(Math.max(py, box.y), box.y + h)];
    if (Math.hypot(nearX - px, nearY - py) > 13) svg.append(draw("line", { class: "leader", x1: px, y1: py, x2: nearX, y2: nearY }));
    svg.append(draw("text", { class: "label", x: box.x + 2, y: box.y + 10 }, text));
  }
};

/** Who takes no part in a frontier has no place on its axis, whatever the measure of its name says. */
const priceOf = (cost, row) => (valueOf(`out:${cost}`, row) ? null : valueOf(cost, row));
const pointsOf = (state) => [...Array(ROWS).keys()].filter((row) => valueOf("group", row) === state.group && !valueOf("floor", row))
  .map((row) => ({ row, x: priceOf(state.cost, row), y: valueOf(state.quality, row), xLow: valueOf(`${state.cost}:low`, row),
    xHigh: valueOf(`${state.cost}:high`, row), yLow: valueOf(`${state.quality}:low`, row), yHigh: valueOf(`${state.quality}:high`, row) }));

const panelOf = (name, points, all, everyones, failed, state, tip) => {
  const svg = draw("svg", { class: "panel", viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "group",
    "aria-label": `${name}: ${points.length} configurations with both a cost and a quality, ${QUALITIES[state.quality]} against ${DATA.costs[state.cost]}; the ranked table has the same numbers` });
  const { x, y, xTicks, yTicks } = all;
  for (const tick of yTicks) {
    svg.append(draw("line", { class: "grid", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(tick), y2: y(tick) }));
    svg.append(draw("text", { class: "tick end", x: SIZE.left - 6, y: y(tick) + 4 }, state.quality === "retention" ? percent(tick) : String(Number(tick.toFixed(4)))));
  }
  for (const tick of xTicks) {
    svg.append(draw("line", { class: "grid", x1: x(tick), x2: x(tick), y1: SIZE.top, y2: SIZE.height - SIZE.bottom }));
    svg.append(draw("text", { class: "tick middle", x: x(tick), y: SIZE.height - SIZE.bottom + 15 }, tick ? tickText(state.cost, tick) : "0"));
  }
  svg.append(draw("text", { class: "tick middle", x: SIZE.left + INSIDE.width / 2, y: SIZE.height - 6 }, `${DATA.costs[state.cost]}, cheaper to the left`));
  svg.append(draw("path", { class: "line everyone", d: steps(everyones, all) }));
  const own = frontierOf(points);
  svg.append(draw("path", { class: "line", d: steps(own, all) }));
  for (const point of points) {
    const family = DATA.families[valueOf("family", point.row)];
    const dim = state.lit !== null && state.lit !== family.key;
    const group = draw("g", { class: `point f-${family.key}${dim ? " dim" : ""}${own.includes(point) ? " on" : ""}${!dim && valueOf("role", point.row) ? " role" : ""}`, "data-row": point.row,
      role: "button", tabindex: "-1", "aria-label": `${valueOf("label", point.row)}: ${written(state.quality, point.y)}, ${written(state.cost, point.x)}` });
    // from one end of the interval to the other, so that the point need not stand in its middle
    const reach = (low, high, at, value) => (low === null || high === null ? [at(value), 2.5] : [(at(high) + at(low)) / 2, Math.max(Math.abs(at(high) - at(low)) / 2, 2.5)]);
    const [[cx, rx], [cy, ry]] = [reach(point.xLow, point.xHigh, x, point.x), reach(point.yLow, point.yHigh, y, point.y)];
    group.append(draw("ellipse", { class: "reach", cx, cy, rx, ry }));
    if (valueOf("converged", point.row) === false) group.append(draw("circle", { class: "stopped", cx: x(point.x), cy: y(point.y), r: 8 }));
    if (valueOf("role", point.row)) group.append(draw("circle", { class: "chosen", cx: x(point.x), cy: y(point.y), r: 9.5 }));
    group.append(draw("text", { class: "mark", x: x(point.x), y: y(point.y) }, family.glyph));
    svg.append(group);
  }
  const lit = (point) => state.lit === null || DATA.families[valueOf("family", point.row)].key === state.lit;
  const chosen = points.filter((point) => valueOf("role", point.row) && lit(point));
  const short = (point) => valueOf("short", point.row).replace(`${name} `, "");
  labelsOf(svg, [...chosen.map((point) => ({ point, text: `${valueOf("role", point.row)}: ${short(point)}`, always: true })),
    ...own.filter((point) => lit(point) && !chosen.includes(point)).map((point) => ({ point, text: short(point), always: false }))], all, points, [own, everyones]);
  if (failed) svg.append(draw("text", { class: "failed end", x: SIZE.width - SIZE.right, y: SIZE.height - SIZE.bottom - 6 }, `\u2716 ${failed} failed, see the ranked table`));
  svg.addEventListener("click", (event) => {
    const at = event.target.closest("[data-row]");
    if (at) showDetails(Number(at.dataset.row));
  });
  svg.addEventListener("pointermove", (event) => tip.over(event, state));
  svg.addEventListener("pointerleave", () => tip.hide());
  walkable(svg, state, tip);
  return make("figure", { class: "panel-of" }, make("figcaption", {}, `${name}: ${QUALITIES[state.quality]}`), svg);
};

/** One stop of the Tab key a panel: the arrow keys go along its lit points, cheapest first, and Enter opens one. */
const walkable = (svg, state, tip) => {
  const places = [...svg.querySelectorAll(".point:not(.dim)")].sort((one, other) => valueOf(state.cost, Number(one.dataset.row)) - valueOf(state.cost, Number(other.dataset.row)));
  places[0]?.setAttribute("tabindex", "0");
  const to = (place) => {
    for (const other of places) other.setAttribute("tabindex", other === place ? "0" : "-1");
    place.focus();
  };
  svg.addEventListener("keydown", (event) => {
    const at = places.indexOf(event.target);
    if (event.key === "Escape") tip.hide();
    const goal = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: places.length - 1 }[event.key];
    if (at < 0 || (goal === undefined && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    if (goal === undefined) showDetails(Number(event.target.dataset.row));
    else to(places[Math.min(Math.max(goal, 0), places.length - 1)]);
  });
  svg.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    if (event.target.dataset.row) tip.show(Number(event.target.dataset.row), box.right, box.bottom, state);
  });
  for (const left of ["focusout", "wheel", "touchmove"]) svg.addEventListener(left, () => tip.hide(), { passive: true });
};

/** The configuration under the pointer, or that has the focus: its numbers and their intervals. */
const tipOf = () => {
  const box = make("div", { class: "tip", "aria-hidden": "true" });
  document.body.append(box);
  const hide = () => box.classList.remove("shown");
  const show = (row, x, y, state) => {
    const chance = state.quality === RANKED_BY ? valueOf(`chance:${state.cost}`, row) : null; // the page holds the chances of one quality
    const lines = [state.quality, "retention", state.cost, "cache_bytes"].filter((name, place, all) => all.indexOf(name) === place && valueOf(name, row) !== null)
      .map((name) => `${QUALITIES[name] ?? DATA.costs[name]}: ${written(name, valueOf(name, row))}${interval(name, row) ? ` (${interval(name, row)})` : ""}`);
    if (chance !== null) lines.push(`on the frontier in ${percent(chance)} of the draws of users`);
    if (valueOf("converged", row) === false) lines.push("not converged");
    box.replaceChildren(make("b", {}, valueOf("label", row)), ...lines.map((line) => make("span", {}, line)));
    box.classList.add("shown");
    box.style.left = `${Math.max(8, Math.min(x + 14, window.innerWidth - box.offsetWidth - 8))}px`;
    box.style.top = `${Math.max(8, Math.min(y + 14, window.innerHeight - box.offsetHeight - 8))}px`;
  };
  const over = (event, state) => {
    const at = event.target.closest("[data-row]");
    return at ? show(Number(at.dataset.row), event.clientX, event.clientY, state) : hide();
  };
  return { over, show, hide };
};

const choice = (name, options, state, key, changed) => {
  const select = make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
  select.addEventListener("change", () => {
    state[key] = key === "group" ? Number(select.value) : select.value;
    changed();
    document.querySelector(`.controls [data-key=${key}]`)?.focus();
  });
  select.value = String(state[key]);
  select.dataset.key = key;
  return make("label", {}, `${name} `, select);
};

const explorer = (place) => {
  const drawable = (group, cost, quality) => pointsOf({ group, cost, quality }).some((p) => p.x !== null && p.y !== null);
  const groups = DATA.groups.map((title, number) => [number, title]).filter(([number]) => Object.keys(DATA.costs).some((cost) => drawable(number, cost, "ndcg@10")));
  if (!groups.length) return;
  const state = { group: groups[0][0], cost: "serve_flops", quality: "ndcg@10", scale: "log", lit: null };
  const holder = make("div", { class: "explorer" });
  const [controls, legend, panels, said] = [make("div", { class: "controls" }), make("div", { class: "filters", role: "group", "aria-label": "Light one family" }), make("div", { class: "panels" }), make("p", { class: "legend" })];
  const tip = tipOf();
  const show = () => {
    const costs = Object.entries(DATA.costs).filter(([cost]) => drawable(state.group, cost, state.quality));
    if (!costs.some(([cost]) => cost === state.cost)) state.cost = costs[0]?.[0] ?? state.cost;
    const qualities = Object.entries(QUALITIES).filter(([quality]) => drawable(state.group, state.cost, quality));
    controls.replaceChildren(...(groups.length > 1 ? [choice("Data", groups, state, "group", show)] : []), choice("Cost", costs, state, "cost", show),
      choice("Quality", qualities, state, "quality", show), choice("Cost axis", [["log", "logarithmic"], ["linear", "linear"]], state, "scale", show));
    const everyone = pointsOf(state);
    const points = everyone.filter((p) => p.x !== null && p.y !== null);
    const kinds = DATA.families.filter((family, number) => points.some((p) => valueOf("family", p.row) === number));
    legend.replaceChildren(...kinds.map((family) => {
      const button = make("button", { type: "button", "aria-pressed": String(state.lit === family.key) }, glyphOf(family), ` ${family.name}`);
      button.addEventListener("click", () => {
        state.lit = state.lit === family.key ? null : family.key;
        show();
        legend.children[kinds.indexOf(family)].focus();
      });
      return button;
    }));
    if (!points.length) return panels.replaceChildren();
    const all = axesOf(points, state.scale === "log", state.cost.endsWith("_bytes"));
    const backbones = [...new Set(points.map((p) => valueOf("backbone", p.row)))];
    const everyones = frontierOf(points);
    panels.replaceChildren(...backbones.map((name) => {
      const failed = everyone.filter((p) => valueOf("backbone", p.row) === name && valueOf("failed", p.row)).length;
      return panelOf(name, points.filter((p) => valueOf("backbone", p.row) === name), all, everyones, failed, state, tip);
    }));
    said.textContent = "A click on a family lights it; hover a point for its numbers, click it for all of them, its record and its command. "
      + "By keyboard: Tab to a panel, the arrow keys along its points, Enter for all of a point. "
      + "The ellipse is the 95% interval. Line: the frontier of the panel; dotted: of all backbones. Dashed ring: not converged; full ring: chosen above.";
  };
  holder.append(controls, legend, panels, said);
  place.append(holder);
  show();
};
