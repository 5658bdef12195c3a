// The entries of a file in the list: what is marked at them, and which have most to do.

import {el} from "../dom.js";
import {count} from "../text.js";

const worstFirst = (a, b) => (b.num_problems ?? 0) - (a.num_problems ?? 0) || (b.worst ?? 0) - (a.worst ?? 0);
export const ORDERS = [["file", "File order", () => 0], ["worst", "Worst first", worstFirst]];

export function tags(entry) {
  return [
    entry.is_changed ? el("span", {class: "tag"}, "not saved") : null,
    entry.num_problems ? el("span", {class: "tag wrong"}, count(entry.num_problems, "problem")) : null,
    entry.num_disagreements ? el("span", {class: "tag"}, count(entry.num_disagreements, "disagreement")) : null].filter(Boolean);
}

// The entry in which the model is worst, of those not seen yet.
export function worst(entries, seen) {
  const left = entries.filter(entry => !seen.has(entry.index) && entry.num_disagreements);
  return left.length ? left.reduce((a, b) => b.worst > a.worst ? b : a) : null;
}
