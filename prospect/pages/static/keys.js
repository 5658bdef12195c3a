// A dialog of a page's keys, with a note on the mouse.

import {el} from "./dom.js";

// keys: [["← →", "one frame; Shift: ten"], ...]
export function keysDialog(keys, note) {
  const dialog = el("dialog", {"aria-label": "Keys", onclose: () => dialog.remove()}, el("form", {method: "dialog", class: "stack"},
    el("h2", {}, "Keys"), el("dl", {class: "pairs keys"}, ...keys.flatMap(([key, told]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, told)])),
    el("p", {class: "faint"}, note), el("div", {class: "row"}, el("span", {class: "spread"}), el("button", {class: "primary"}, "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}
