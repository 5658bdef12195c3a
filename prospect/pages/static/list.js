// A list of entries (clips, mostly), to filter, to order, and to choose one of.
//
//   new List(root, {open: index => ..., orders: [["file", "File order", (a, b) => 0], ...], tags: entry => [...]})
//
// An entry is {index, title, ...}; `compare` is of two of them, and of equal ones the smaller index comes first.

import {el} from "./dom.js";

export class List {
  constructor(root, {open, orders, tags}) {
    Object.assign(this, {open, tags, entries: [], shown: null});
    this.compare = new Map(orders.map(([id, , compare]) => [id, compare]));
    this.filter = el("input", {type: "search", placeholder: "Filter", "aria-label": "Filter clips", oninput: () => this.draw()});
    this.order = el("select", {"aria-label": "Order", onchange: () => this.draw()},
      ...orders.map(([id, name]) => el("option", {value: id}, name)));
    this.items = el("ul", {class: "plain-list entries"});
    root.replaceChildren(el("div", {class: "row"}, this.filter, this.order), this.items);
  }

  set(entries, shown) {
    this.entries = entries;
    this.shown = shown;
    this.draw();
  }

  // Of one entry something changed.
  update(index, about) {
    const entry = this.entries.find(one => one.index === index);
    if (entry) Object.assign(entry, about);
    this.shown = index;
    this.draw();
  }

  get inOrder() {
    const wanted = this.filter.value.toLowerCase();
    const left = this.entries.filter(entry => entry.title.toLowerCase().includes(wanted));
    const compare = this.compare.get(this.order.value);
    return left.sort((a, b) => compare(a, b) || a.index - b.index);
  }

  // The entry before (-1) or after (1) the shown one.
  beside(by) {
    const left = this.inOrder, here = left.findIndex(entry => entry.index === this.shown);
    return left[here + by] ?? null;
  }

  draw() {
    this.items.replaceChildren(...this.inOrder.map(entry => el("li", {}, el("button", {
      class: "plain entry", "aria-current": entry.index === this.shown ? "true" : null, title: entry.title, onclick: () => this.open(entry.index)},
      el("span", {class: "entry-title"}, entry.title), el("span", {class: "row"}, ...this.tags(entry))))));
    this.items.querySelector('[aria-current="true"]')?.scrollIntoView({block: "nearest"});
  }
}
