// A card: a storyboard of a clip, with what happens at each picture, and the clip in numbers.

import {el, svg} from "../dom.js";
import {clock, count, duration, words} from "../text.js";
import {SHAPES} from "../timeline_draw.js";
import {link, picture} from "./source.js";

const HEIGHT = 144;  // pixels of a picture, for sharp ones at twice the size

export function card(one, run = "") {
  const mistakes = Object.entries(one.mistakes).filter(([name]) => !run || name === run);
  return el("article", {class: "panel card"},
    el("h2", {}, el("a", {class: "card-link", href: link("clips", [one.key], {run})}, one.title)),
    storyboard(one),
    el("p", {class: "faint"}, [one.of, duration(one.seconds), count(one.num_steps, "step"), count(one.num_update, "update"),
      count(one.num_assistant, "utterance"), `${Math.round(100 * one.silence)}% silence`].join(" · ")),
    el("div", {class: "row tags"},
      one.num_problems ? el("span", {class: "tag wrong"}, count(one.num_problems, "problem")) : null,
      one.frames.missing ? el("span", {class: "tag", title: one.frames.missing}, "no frames here") : null,
      ...one.broken.map(told => el("span", {class: "tag wrong", title: told}, "a prediction cannot be read")),
      ...mistakes.flatMap(([name, counts]) => tags(counts, mistakes.length > 1 ? `${name}: ` : ""))));
}

function tags(counts, before) {
  const told = Object.entries(counts).map(([error, number]) => el("span", {class: "tag wrong"}, `${before}${words(error)} × ${number}`));
  return told.length ? told : [el("span", {class: "tag good"}, `${before}no mistake`)];
}

function storyboard(one) {
  return el("ol", {class: "storyboard"}, ...one.tiles.map(tile => {
    const first = tile.what[0], said = tile.what.map(what => what.label).join(", ");
    const image = one.frames.missing ? el("span", {class: "tile-empty", "aria-hidden": "true"})
      : el("img", {src: picture(one.key, tile.frame, HEIGHT), loading: "lazy", decoding: "async", alt: said || `frame ${tile.frame}`, height: HEIGHT / 2});
    return el("li", {class: first ? `tile look-${first.look}` : "tile", title: `${clock(tile.frame / one.fps)}${said ? ` · ${said}` : ""}`}, image,
      el("span", {class: "tile-word"}, ...tile.what.slice(0, 4).flatMap(what => [mark(what.shape, what.look), what.step ? el("span", {}, what.step) : null]),
        first ? first.look === "speak" ? el("span", {}, "says") : null : el("span", {}, clock(tile.frame / one.fps, 0))));
  }));
}

// The mark of the timeline, alone.
export function mark(shape, look) {
  return svg("svg", {class: `mark look-${look}`, viewBox: "-7 -7 14 14", width: 12, height: 12, "aria-hidden": "true"},
    svg("path", {d: SHAPES[shape] ?? SHAPES.system}));
}
