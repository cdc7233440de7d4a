// What all scripts share: the compact table, how numbers are written (as benchmarks/text.py writes them), and how elements are made.
const source = document.getElementById("compact");
const DATA = source ? JSON.parse(source.textContent) : { columns: {}, groups: [], families: [], costs: {}, measures: {}, cells: "" };
const COLUMNS = DATA.columns;
const ROWS = (COLUMNS.label ?? []).length;
const MISSING = "\u2013";

/** A value of a row, or null where it is not known. */
const valueOf = (name, row) => COLUMNS[name]?.[row] ?? null;

/** A name whose window, ``64 + 8``, stays on one line. */
const unbroken = (text) => text.replaceAll(" + ", "\u00a0+\u00a0");

/** An element; texts are set as text, never as markup, so nothing of a record is ever read as a tag. */
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== "") element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
};
const draw = (tag, attributes = {}, text = null) => {
  const element = document.createElementNS(document.querySelector("svg").namespaceURI, tag); // a figure's own: no address in this page
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
};
const glyphOf = (family) => make("span", { class: `glyph f-${family.key}`, "aria-hidden": "true" }, family.glyph);

const minus = (text) => text.replace("-", "\u2212");
const commas = (text) => {
  const [whole, rest] = text.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return rest === undefined ? grouped : `${grouped}.${rest}`;
};
const significant = (value, digits = 3) => {
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-9 || Math.abs(value) >= 1e21) return minus(value.toExponential(digits - 1));
  const rounded = Number(value.toExponential(digits - 1));
  return minus(commas(rounded.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(rounded)))))));
};
const SI = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const BINARY = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
const scaled = (value, units, least) => {
  const unit = units.find(([size]) => Math.abs(value) >= size * 0.9995);
  return unit ? `${significant(value / unit[0])} ${unit[1]}` : `${significant(value)} ${least}`.trim();
};
const flops = (value) => {
  const [number, prefix = ""] = scaled(value, SI, "").split(" ");
  return `${number} ${prefix}FLOP`;
};
const count = (value) => (Math.abs(value) < 10000 && Number.isInteger(value) ? minus(commas(String(value))) : scaled(value, SI, ""));
const ratio = (value) => minus(value.toFixed(4));
const percent = (value) => {
  const shown = Math.abs(100 * value);
  if (shown >= 1e-4 && shown < 0.1) return `${significant(100 * value, 2)}%`;
  return minus(commas((100 * value).toFixed(shown >= 99.95 ? 0 : 1)) + "%");
};
const WRITERS = [
  ["_flops", flops], ["_bytes", (value) => scaled(value, BINARY, "B")],
  ["_ms", (value) => (value >= 10000 ? `${significant(value / 1000)} s` : `${significant(value)} ms`)],
  ["_per_second", (value) => `${count(Number(value.toPrecision(3)))}/s`], ["_share", percent], ["_over_full", percent],
  ["retention", percent], ["recovered", percent], ["parameters", count], ["_j", (value) => `${significant(value)} J`],
];
/** A number in the unit that its measure's name tells. */
const written = (name, value) => (value === null ? MISSING : (WRITERS.find(([suffix]) => name.endsWith(suffix))?.[1] ?? ratio)(value));
/** The 95% interval of a row's number, or nothing. */
const interval = (name, row) => {
  const [low, high] = [valueOf(`${name}:low`, row), valueOf(`${name}:high`, row)];
  if (low === null || high === null || low === high) return "";
  const [least, most] = [written(name, low), written(name, high)];
  const [number, unit] = least.split(" ");
  return `${unit && most.endsWith(` ${unit}`) ? number : least} to ${most}`; // a unit that both have stands once
};
