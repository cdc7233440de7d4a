// What fits a budget, computed anew at every change. `benchmarks.advise` answers the same, with intervals and the ages of a cache.
const KIB = 1024;
const ASKED = [["latency", "ms at most"], ["cache", "KiB stored per user, at most"],
  ["kept", "percent of the best full history's quality, at least"], ["quality", "NDCG@10, at least"], ["requests", "requests per refresh"]];
const BINDS = { latency: "latency", cache: "stored bytes", kept: "quality kept", quality: "NDCG@10" };
const UNKNOWN = { latency: "time", cache: "stored bytes", kept: "share of full history's quality", quality: "NDCG@10", requests: "compute of a request and its refresh" };
const LEAST = ["kept", "quality"]; // of these the bound is the least and not the most
const MOST_ROWS = 8;

/** ``95th percentile of a request's time, backbone alone`` from the name of a latency's measure. */
const latencyName = (name) => {
  const [, what, percentile] = name.match(/^(request|serve)_latency_p(\d+)_ms$/);
  return `${percentile === "50" ? "median" : `${percentile}th percentile`} of ${what === "request" ? "a whole request's time" : "a request's time, backbone alone"}`;
};
/** A refresh's time is a user's share of a batch, and says so. */
const refreshTime = (row) => {
  const [rate, batch] = [valueOf("compress_users_per_second", row), valueOf("batch_size", row)];
  return rate ? [written("_ms", 1000 / rate), make("small", {}, batch === 1 ? "one user at a time" : `share of a batch of ${batch}`)] : [MISSING];
};

/** A row's numbers that bounds are held against; null is not known. */
const servedBy = (row, group) => {
  const quality = valueOf("ndcg@10", row);
  const cache = valueOf("serving", row) === "recompute" && valueOf("serve_flops", row) !== null ? 0 : valueOf("cache_bytes", row); // beside the items, which every way needs
  return { latency: valueOf(group.latency, row), cache: cache === null ? null : cache / KIB, quality,
    kept: quality === null || group.reference === null ? null : (100 * quality) / group.reference };
};
const perRequest = (row, requests) => {
  const [compress, serve] = [valueOf("compress_flops", row), valueOf("serve_flops", row)];
  return compress === null || serve === null ? null : serve + compress / requests;
};
/** How much is to spare, as a share of the bound; below 0 it is missed. */
const spareOf = (name, value, bound) => {
  const gap = LEAST.includes(name) ? value - bound : bound - value;
  return bound === 0 ? (gap === 0 ? 0 : gap * Infinity) : gap / bound;
};
/** The interval of the median over processes, by which a time is sure; a percentile beside it is of all processes together and has none. */
const overProcesses = (name, row) => interval(name.replace(/_p\d+_ms$/, "_p50_ms"), row);
/** Whether a bound on a median lies inside its interval, so that other processes might be on its other side; a percentile has none. */
const inside = (bound, name, row) => {
  const [low, high] = [valueOf(`${name}:low`, row), valueOf(`${name}:high`, row)];
  return name.endsWith("_p50_ms") && bound !== undefined && low !== null && high !== null && low <= bound && bound < high;
};
const timed = (value, name, row, bound) => {
  const between = overProcesses(name, row);
  return value === null ? [MISSING] : [written("_ms", value), make("small", {}, between ? `median ${between}` : "of one process"),
    inside(bound, name, row) ? make("small", {}, "the bound lies inside: it may or may not fit") : null];
};
const ascending = (one, other) => (one ?? Infinity) - (other ?? Infinity) || 0;

/** The rows of a group that can be judged, those that fit first, the best first; then the others, the nearest miss first. */
const judged = (number, bounds) => {
  const group = DATA.budget[number];
  const rows = Array.from({ length: ROWS }, (_, row) => row).filter((row) => valueOf("group", row) === number && valueOf("servable", row));
  const ranked = rows.filter((row) => valueOf("ndcg@10", row) !== null);
  const figure = ranked.some((row) => valueOf("training", row) !== "none" && valueOf("validation", row) === null) ? "ndcg@10" : "validation";
  const byCost = LEAST.some((name) => name in bounds) || !ranked.length;
  const every = rows.map((row) => {
    const served = servedBy(row, group);
    const spare = Object.keys(bounds).filter((name) => name !== "requests").map((name) => [name, served[name] === null ? null : spareOf(name, served[name], bounds[name])]);
    const binds = spare.reduce((least, one) => (least === null || one[1] < least[1] ? one : least), null);
    return { row, served, spare, binds, cost: perRequest(row, bounds.requests), figure: valueOf(figure, row) };
  }).filter((one) => one.spare.every(([, share]) => share !== null));
  const cheaper = (one, other) => ascending(one.cost, other.cost) || ascending(valueOf("serve_latency_p50_ms", one.row), valueOf("serve_latency_p50_ms", other.row));
  const better = (one, other) => (other.figure ?? -Infinity) - (one.figure ?? -Infinity) || 0;
  const fits = every.filter((one) => one.spare.every(([, share]) => share >= 0));
  fits.sort((one, other) => (byCost ? cheaper(one, other) || better(one, other) : better(one, other) || cheaper(one, other)));
  const misses = every.filter((one) => !fits.includes(one)).sort((one, other) => other.binds[1] - one.binds[1]);
  return { fits, misses, order: byCost ? "the least compute first" : figure === "validation" ? "the best on validation first" : "the best first" };
};

const budgetLine = (one, group, bounds) => {
  const name = make("button", { type: "button", class: "name" }, unbroken(valueOf("label", one.row)));
  name.addEventListener("click", () => showDetails(one.row));
  const number = (text) => make("td", { class: "number" }, text);
  const [what, share] = one.binds ?? [null, 0];
  const binds = what === null ? "no bound" : `${BINDS[what]}, ${percent(Math.abs(share))} ${share < 0 ? "missing" : "to spare"}`;
  return make("tr", {}, make("th", { scope: "row" }, name, valueOf("converged", one.row) === false ? make("small", {}, "not converged") : null),
    number(one.served.kept === null ? MISSING : percent(one.served.kept / 100)), make("td", { class: "number" }, ...timed(one.served.latency, group.latency, one.row, bounds.latency)),
    number(valueOf("serving", one.row) === "recompute" ? "the items alone" : written("cache_bytes", valueOf("cache_bytes", one.row))), number(written("_flops", one.cost)), make("td", { class: "number" }, ...refreshTime(one.row)),
    number(String((valueOf("seeds", one.row) ?? []).length)), make("td", {}, binds));
};

const budgetAnswer = (number, bounds) => {
  const group = DATA.budget[number];
  const { fits, misses, order } = judged(number, bounds);
  const all = fits.length + misses.length;
  const few = fits.length > MOST_ROWS ? `, of which the first ${MOST_ROWS} are shown` : "";
  const said = fits.length ? `${fits.length} of ${all} servable configurations fit, ${order}${few}.` : all ? `None of ${all} servable configurations fits; the nearest misses first.` : "No configuration has the numbers that this asks for.";
  const why = group.reference === null ? ` No share of full history's quality can be asked for: ${group.why}.` : ` Quality kept is a share of that of ${group.name}, the best full history of all backbones, ${ratio(group.reference)}.`;
  const counted = " Only configurations that have every number asked for are counted; floors, peers, ablations and aged caches are not.";
  const times = fits.concat(misses).filter((one) => one.served.latency !== null);
  const unsure = times.length && !times.some((one) => overProcesses(group.latency, one.row)) ? " Every time here was taken in one process: it has no interval, and a bound on it is not sure." : "";
  const head = ["configuration", "kept of the best full history", latencyName(group.latency), "stored per user", "compute of a request and its share of a refresh", "time of a refresh", "seeds", "what binds"];
  const shown = (fits.length ? fits : misses).slice(0, MOST_ROWS);
  const title = DATA.groups.length > 1 ? make("h3", {}, DATA.groups[number]) : null;
  const box = make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "What fits" },
    make("table", {}, make("caption", {}, "What fits"), make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...shown.map((one) => budgetLine(one, group, bounds)))));
  const table = shown.length ? make("div", { class: "table" }, box) : null;
  if (table) hinted(box);
  return make("div", {}, title, make("p", { "aria-live": "polite" }, said + why + (all ? counted : "") + unsure), table);
};

/** Whether any configuration that one could serve has the number that a bound is held against; without one there is nothing to ask. */
const answerable = ([name]) => DATA.budget.some((group, number) => Array.from({ length: ROWS }, (_, row) => row)
  .filter((row) => valueOf("group", row) === number && valueOf("servable", row))
  .some((row) => (name === "requests" ? perRequest(row, 1) : servedBy(row, group)[name]) !== null));

const budget = (place) => {
  const offered = ASKED.filter(answerable);
  const inputs = Object.fromEntries(offered.map(([name]) => [name, make("input", { type: "number", min: name === "requests" ? "1" : "0", step: "any", value: name === "requests" ? "1" : "" })]));
  const answers = make("div", {});
  const missing = ASKED.filter((one) => !offered.includes(one)).map(([name]) => UNKNOWN[name]);
  const unknown = missing.length ? [make("p", {}, `Nothing here can be asked for by ${missing.join(", ")}: these records hold none.`)] : [];
  const refresh = () => {
    const bounds = {};
    for (const [name] of offered) if (inputs[name].value !== "" && Number.isFinite(inputs[name].valueAsNumber)) bounds[name] = inputs[name].valueAsNumber;
    bounds.requests = Math.max(1, bounds.requests ?? 1);
    answers.replaceChildren(...DATA.budget.map((_, number) => budgetAnswer(number, bounds)));
  };
  for (const input of Object.values(inputs)) input.addEventListener("input", refresh);
  const bounded = [...new Set(DATA.budget.map((group) => latencyName(group.latency)))];
  const asked = ([name, text]) => (name === "latency" ? `${text}, ${bounded.length === 1 ? bounded[0] : "at the percentile that each table names"}` : text);
  place.append(make("div", { class: "controls" }, ...offered.map((one) => make("label", {}, `${asked(one)} `, inputs[one[0]]))), ...unknown, answers);
  refresh();
};
