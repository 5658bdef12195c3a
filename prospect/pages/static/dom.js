// Elements. Text from data becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

// el("button", {class: "primary", onclick: save, disabled: true}, "Save"): a property that is a function listens;
// undefined, null and false leave an attribute out, true writes it without a value; children may be nodes, texts, null.
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.replace(/^on/, ""), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, String(value));
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

// The data of a page, by the id of its block; `missing` where it has none.
export function data(id, missing = null) {
  const block = document.getElementById(id);
  return block === null ? missing : JSON.parse(block.textContent);
}

export function find(selector, within = document) {
  return within.querySelector(selector);
}

// Whether keys typed now belong to a field, not to the page.
export function isTyping(target) {
  return target instanceof Element
    && target.closest("input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable]") !== null;
}
