// The list of a file's entries; those with most to do can come first.

import {el} from "../dom.js";
import {count} from "../text.js";

export class List {
  constructor(root, open) {
    this.entries = [];
    this.open = open;
    this.shown = null;
    this.filter = el("input", {type: "search", placeholder: "Filter", "aria-label": "Filter clips", oninput: () => this.draw()});
    this.order = el("select", {"aria-label": "Order", onchange: () => this.draw()},
      el("option", {value: "file"}, "File order"), el("option", {value: "worst"}, "Worst first"));
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
    if (this.order.value === "worst")
      left.sort((a, b) => (b.num_problems ?? 0) - (a.num_problems ?? 0) || (b.worst ?? 0) - (a.worst ?? 0) || a.index - b.index);
    return left;
  }

  // The entry before (-1) or after (1) the shown one.
  beside(by) {
    const left = this.inOrder, here = left.findIndex(entry => entry.index === this.shown);
    return left[here + by] ?? null;
  }

  // The entry in which the model is worst, of those not seen yet.
  worst(seen) {
    const left = this.entries.filter(entry => !seen.has(entry.index) && entry.num_disagreements);
    return left.length ? left.reduce((a, b) => b.worst > a.worst ? b : a) : null;
  }

  draw() {
    this.items.replaceChildren(...this.inOrder.map(entry => el("li", {}, el("button", {
      class: "plain entry", "aria-current": entry.index === this.shown ? "true" : null, title: entry.title, onclick: () => this.open(entry.index)},
      el("span", {class: "entry-title"}, entry.title), el("span", {class: "row"}, ...tags(entry))))));
    this.items.querySelector('[aria-current="true"]')?.scrollIntoView({block: "nearest"});
  }
}

function tags(entry) {
  return [
    entry.is_changed ? el("span", {class: "tag"}, "not saved") : null,
    entry.num_problems ? el("span", {class: "tag wrong"}, count(entry.num_problems, "problem")) : null,
    entry.num_disagreements ? el("span", {class: "tag"}, count(entry.num_disagreements, "disagreement")) : null].filter(Boolean);
}
