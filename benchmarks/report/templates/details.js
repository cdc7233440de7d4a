// All that the records hold of one configuration, shown on a click: settings, every number with its interval, record and command.
const SETTINGS = ["backbone", "tokens", "history", "recent", "segments", "plan", "serving", "cache_dtype", "training"];
const BESIDE = { retention: "quality as a share of its own backbone's full history at this window", over_no_token: "NDCG@10 minus no token's",
  recovered: "share of the long history's value that the tokens keep", compress_serve_flops: "FLOPs of a refresh and one request" };
const panel = make("dialog", { class: "details", "aria-labelledby": "details-title" });

const definitions = (pairs) => make("dl", { class: "facts" }, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));

const numbersOf = (row) => {
  const names = ["ndcg@10", "recall@10", ...Object.keys(BESIDE), ...Object.keys(DATA.measures).filter((name) => name !== "ndcg@10" && name !== "recall@10")];
  const known = names.filter((name) => valueOf(name, row) !== null);
  const lines = known.map((name) => make("tr", {},
    make("th", { scope: "row" }, name.replaceAll("_", " "), make("small", {}, BESIDE[name] ?? DATA.measures[name]?.says ?? "")),
    make("td", { class: "number" }, written(name, valueOf(name, row))), make("td", { class: "number" }, interval(name, row))));
  const box = make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Every number" }, make("table", {}, make("caption", {}, "Every number"),
    make("thead", {}, make("tr", {}, ...["measure", "value", "95% interval"].map((name, place) => make("th", { scope: "col", class: place ? "number" : "" }, name)))),
    make("tbody", {}, ...lines)));
  const holder = make("div", { class: "table" }, box);
  hinted(box);
  return holder;
};

const standingsOf = (row) => Object.entries(DATA.costs).filter(([cost]) => valueOf(`chance:${cost}`, row) !== null || valueOf(`on:${cost}`, row)).map(([cost, name]) => {
  const [chance, beaten] = [valueOf(`chance:${cost}`, row), valueOf(`beaten:${cost}`, row)];
  const sure = chance === null ? "how sure is not known" : `on it in ${percent(chance)} of the draws of users`;
  return [`frontier: ${name}`, `${valueOf(`on:${cost}`, row) ? "on it" : "off it"} by the values, ${sure}${beaten === null ? "" : `; beaten with 95% confidence by ${valueOf("label", beaten)}`}`];
});

const recordsOf = (row) => {
  const seeds = valueOf("seeds", row) ?? [];
  return (valueOf("records", row) ?? []).map((key, place) => {
    const name = `seed ${seeds[place]}: ${key.slice(0, 12)}`;
    return make("li", {}, DATA.cells ? make("a", { href: `${DATA.cells}${key}.json` }, name) : name);
  });
};

/** How the other trainings of a mean are measured again. */
const othersOf = (row) => {
  const seeds = valueOf("seeds", row) ?? [];
  return seeds.length > 1 && valueOf("rerun", row) ? [` It measures seed ${seeds[0]}; with ${seeds.slice(1).join(" or ")} in its place, the others of this mean.`] : [];
};

const showDetails = (row) => {
  const close = make("button", { type: "button", class: "close" }, "Close");
  close.addEventListener("click", () => panel.close());
  const role = valueOf("role", row);
  const [unequal, reason] = [valueOf("unequal", row), valueOf("no_retention", row)];
  const ends = { true: "yes", false: "no: a bound stopped the training before its plateau" }[valueOf("converged", row)] ?? "not recorded, or nothing was trained";
  panel.replaceChildren(
    make("div", { class: "details-head" }, make("h2", { id: "details-title" }, valueOf("label", row)), close),
    make("p", { class: "lead" }, `${DATA.groups[valueOf("group", row)]}${role ? `; chosen as ${role}` : ""}`),
    definitions([...SETTINGS.filter((name) => valueOf(name, row) !== null).map((name) => [name.replaceAll("_", " "), String(valueOf(name, row))]),
      ["cells", valueOf("ended", row)], ["converged", ends], ...(unequal ? [["training", `not equal to its references': ${unequal}`]] : []),
      ...(reason ? [["retention", reason]] : []), ...standingsOf(row)]),
    make("h3", {}, "Measure it again"), make("p", {}, make("code", {}, valueOf("rerun", row) ?? "the record holds no command")),
    make("p", { class: "legend" }, DATA.resume, ...othersOf(row)),
    make("h3", {}, "Records"), make("ul", { class: "points" }, ...recordsOf(row)), numbersOf(row));
  panel.showModal();
  panel.scrollTop = 0;
};
