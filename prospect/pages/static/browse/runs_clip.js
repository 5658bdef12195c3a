// Two evaluations of one clip on one timeline: the annotation, A and B below it, both their curves.

import {el, isTyping} from "../dom.js";
import {clipOf, lanesOf, mistakes} from "../report/lanes.js";
import {clock, count} from "../text.js";
import {Timeline} from "../timeline.js";
import {exportButtons} from "../timeline_export.js";
import {about, ask, link, picture} from "./source.js";

let keys = null;

export async function showPair(root, key, query) {
  const names = about.runs.evaluations.map(one => one.name), chosen = [...new Set([query.a, query.b])].filter(name => names.includes(name));
  if (!chosen.length) throw new Error("Name the evaluations in the address (a=..., b=...), or choose a clip of the list.");
  const blocks = await Promise.all(chosen.map(name => ask("runs", ["clip", String(names.indexOf(name)), key])));
  const models = blocks.map((block, place) => ({...clipOf(block, block.id), name: chosen[place], settings: block.settings})), [clip] = models;
  const image = el("img", {alt: "", onerror: () => { image.hidden = true; }, onload: () => { image.hidden = false; }}), made = lanesOf(models), wrong = mistakes(made);
  const lanes = el("div", {}), timeline = new Timeline(lanes, {from: clip.first, to: clip.last + 1, rate: clip.fps, lanes: made, cursor: wrong.length ? wrong[0].at - .5 : clip.first});
  const show = () => { image.src = picture(key, timeline.cursor, 360); image.alt = `frame ${timeline.cursor}`; };
  timeline.addEventListener("cursor", show);
  const listed = wrong.map(item => el("li", {}, el("button", {class: "plain", onclick: () => timeline.goTo(item)}, `${clock((item.at - .5) / clip.fps)} `, el("b", {}, item.error),
    ` ${item.text.split("\n").slice(0, 2).map((line, place) => place ? line : line.split(" · ").at(-1)).join(": ")}`)));
  const zoom = [["−", .5, "Zoom out"], ["+", 2, "Zoom in"], ["Whole", 0, "See all"]].map(([text, factor, name]) => el("button", {"aria-label": name, onclick: () => timeline.zoom(factor)}, text));
  const title = `${clip.id}: ${chosen.join(" and ")}`;
  root.append(el("header", {}, el("h1", {}, clip.id), el("p", {class: "faint"}, `${chosen.join(" and ")} · `, el("a", {href: link("runs", [], query)}, "all runs"), " · ", el("a", {href: link("clips", ["clip", key])}, "the clip"))),
    el("div", {class: "top"}, el("div", {class: "stage"}, el("div", {class: "player"}, image)), el("section", {class: "panel side compared", "aria-label": "Mistakes"}, el("h2", {}, listed.length ? count(listed.length, "mistake") : "No mistakes"), el("ol", {class: "plain-list"}, ...listed))),
    el("section", {class: "panel lanes", "aria-label": "Timeline"}, el("div", {class: "row tools"}, el("span", {class: "spread"}), ...zoom, ...exportButtons(timeline, () => ({name: title, title, note: "Solid: annotated. Dashed: models."}))), lanes));
  show();
  if (keys) removeEventListener("keydown", keys);
  keys = event => {
    if (!root.isConnected || event.defaultPrevented || isTyping(event.target) || ["select", "button", "a", "summary"].includes(event.target.localName)) return;
    if (timeline.key(event)) event.preventDefault();
  };
  addEventListener("keydown", keys);
}
