// The tokens that a clip is trained as, part by part; asked for when they are opened.

import {el} from "../dom.js";
import {drawTokens} from "../tokens.js";
import {ask} from "./source.js";

const NO_CONFIG = "Tokens and labels depend on a run's settings: name a run among the paths, or pass --config.";

// `go(frame)`: to a frame that is chosen among the tokens.
export function tokensPanel(view, go) {
  const body = el("div", {class: "stack"}, el("p", {class: "faint"}, view.tokens ? "Reading…" : NO_CONFIG));
  const root = el("details", {class: "panel side tokens-panel"}, el("summary", {}, "Tokens",
    el("span", {class: "faint"}, view.tokens ? `, as ${view.tokens} trains them` : "")), body);
  if (view.tokens) root.addEventListener("toggle", () => fill(view, go, body), {once: true});
  return root;
}

async function fill(view, go, body) {
  try {
    const {told, parts} = await ask("clips", ["tokens", view.key]);
    body.replaceChildren(...told ? [el("p", {class: "faint"}, told)] : [], ...parts.map(part => {
      const root = el("section");
      drawTokens(root, part, {onframe: go});
      return root;
    }));
  } catch (error) {
    body.replaceChildren(el("p", {class: "problem"}, error.message));
  }
}
