// All that was said and updated in a clip, by time: what was given, what is annotated, what the model did.

import {el} from "../dom.js";
import {verdict} from "../events.js";
import {clock} from "../text.js";
import {similarity} from "./lanes.js";

const HEADS = ["Time", "User, system", "Annotated", "Model"];

export function transcript(clip, go) {
  const rows = new Map();
  const put = (events, column, told) => {
    for (const event of events) {
      if (!rows.has(event.at)) rows.set(event.at, [[], [], []]);
      rows.get(event.at)[column].push(told(event));
    }
  };
  const wrong = event => event.errors.length ? el("span", {class: "tag wrong"}, verdict(event, clip.fps)) : null;
  const near = (event, side) => {
    const told = similarity(clip, event, side);
    return told ? el("span", {class: "tag"}, told) : null;
  };
  put(clip.lines, 0, line => el("p", {class: line.role === "user" ? "user" : "faint"}, `${line.role}: ${line.text}`));
  for (const side of [0, 1]) {
    put(clip.updates[side], side + 1, event => el("p", {class: "mono"}, event.text, " ", wrong(event)));
    put(clip.speech[side], side + 1, event => el("p", {}, event.text, " ", side ? near(event, "predicted") : null, " ", wrong(event)));
  }
  const lines = [...rows].sort((a, b) => a[0] - b[0]).map(([at, cells]) => el("li", {class: "told", "data-at": at},
    el("button", {class: "plain told-time", title: `Frame ${at}`, onclick: () => go(at)}, clock(at / clip.fps)),
    ...cells.map((said, column) => el("div", {"data-head": said.length ? HEADS[column + 1] : null}, ...said))));
  return el("section", {class: "panel transcript", "aria-label": "Transcript"}, el("h2", {}, "Transcript"),
    el("div", {class: "told told-heads", "aria-hidden": "true"}, ...HEADS.map(head => el("span", {}, head))),
    lines.length ? el("ol", {class: "plain-list"}, ...lines) : el("p", {class: "faint"}, "Nothing is said in this clip, and no state changes."));
}
