// Sentences of what happened, at the foot of the page; screen readers hear them.

import {el} from "./dom.js";

const STAYS_MS = 6000;
let area = null;

// Say a sentence; what went wrong stays until it is closed. Saying the same again shows it once.
export function say(text, kind = "") {
  if (area === null) {
    area = el("div", {class: "notices", role: "status", "aria-live": "polite"});
    document.body.append(area);
  }
  for (const shown of area.children) if (shown.firstChild.textContent === text) shown.remove();
  const close = el("button", {class: "plain", "aria-label": "Close", onclick: () => notice.remove()}, "×");
  const notice = el("div", {class: `notice ${kind}`}, el("span", {}, text), close);
  area.append(notice);
  if (kind !== "wrong") setTimeout(() => notice.remove(), STAYS_MS);
  return notice;
}

export function complain(error) {
  return say(error instanceof Error ? error.message : String(error), "wrong");
}
