"use strict";
// Elements, and the data that the page carries. Text becomes text nodes and nothing else.

const SVG = "http://www.w3.org/2000/svg";
const parsed = new Map();

function part(name) {
  if (!parsed.has(name)) parsed.set(name, JSON.parse(document.getElementById(name).textContent));
  return parsed.get(name);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A text from outside: its direction cannot reach the text around it.
function said(text, name) {
  return el("bdi", { dir: "auto", class: name }, text);
}

function choice(title, options, changed, first) {
  const select = el("select", { change: () => changed(select.value) });
  if (first !== undefined) select.append(el("option", { value: "" }, first));
  for (const [value, text] of options) select.append(el("option", { value }, text));
  return [el("label", {}, title, select), select];
}

function show(value, percent, sign) {
  if (value === null || value === undefined) return "-";
  const text = percent ? (100 * value).toFixed(2) : String(Number(value.toPrecision(4)));
  return sign && Number(text) > 0 ? "+" + text : text;
}

function interval(low, high, percent, sign) {
  if (low === null || low === undefined || high === null || high === undefined) return "[no interval]";
  const one = (x) => (percent ? (sign && x > 0 ? "+" : "") + (100 * x).toFixed(1) : show(x, false, sign));
  return "[" + one(low) + ", " + one(high) + "]";
}

function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value !== undefined && value !== null && value !== "") list.append(el("dt", {}, said(name)), el("dd", {}, said(value)));
  }
  return list;
}

function grid(head, rows, name) {
  const table = el("table", { class: name });
  table.append(el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { scope: "col", class: i && name !== "papers" ? "number" : null }, said(text))))));
  const body = el("tbody");
  for (const [first, ...rest] of rows) {
    body.append(el("tr", {}, el("th", { scope: "row" }, said(first)), rest.map((x) => (x instanceof Node && x.tagName === "TD" ? x : el("td", { class: "number" }, x)))));
  }
  table.append(body);
  return el("div", name === "map" ? { class: "wide" } : { class: "wide", tabindex: "0", role: "group", "aria-label": "table" }, table);
}
