// The tokens that a clip is trained as, part by part; asked for when they are opened.

import {el} from "../dom.js";
import {ask} from "./source.js";

export function tokensPanel(view, go) {
  const body = el("div", {class: "stack"}, el("p", {class: "faint"}, "Reading…"));
  const root = el("details", {class: "panel side tokens-panel"}, el("summary", {}, "Tokens", el("span", {class: "faint"}, view.tokens ? ` as ${view.tokens} trains them` : "")), body);
  root.addEventListener("toggle", () => {
    if (root.open) fill(view, go, body).catch(error => body.replaceChildren(el("p", {class: "problem"}, error.message)));
  }, {once: true});
  return root;
}

async function fill(view, go, body) {
  const answer = view.tokens ? await ask("clips", ["tokens", view.key]) : {told: "Tokens depend on a model: name a run among the paths, or pass --config.", parts: []};
  body.replaceChildren(answer.told ? el("p", {class: "faint"}, answer.told) : null);
}
