// The report of an evaluation: a sentence, then one clip on a timeline after the other, worst first, then the numbers.
// Blocks of the page: about (what pages/html.py makes of the metrics), metrics (metrics.json), clip-0, clip-1, ...

import {data, el, find, isTyping} from "../dom.js";
import {Player} from "../frames.js";
import {keysDialog} from "../keys.js";
import {List} from "../list.js";
import {say} from "../notice.js";
import {metricNames, worstFirst} from "../scores.js";
import {clock, count, words} from "../text.js";
import {Timeline} from "../timeline.js";
import {exportButtons} from "../timeline_export.js";
import {clipOf, lanesOf, mistakes, nearest} from "./lanes.js";
import {clipTable, judgedTable, judgeTable, metricTables, number} from "./tables.js";
import {transcript} from "./transcript.js";

const WRONG = ["missed", "repeated", "spurious", "wrong_step", "wrong_transition", "speech_missed", "speech_repeated", "speech_spurious"];
const NOTE = "Solid: annotated. Dashed: the model. ! marks a mistake; a bar reaches from where an event was due to where it was.";
const about = data("about"), metrics = data("metrics"), clips = metrics.clips;
const names = metricNames(clips);
let clip = null, shown = null, wrong = [], player = null, timeline = null;

// --- the page ------------------------------------------------------------------------------------------------------

const title = el("h2", {class: "clip-title"}), sentence = el("p", {class: "faint"}), place = el("span", {class: "faint"}), stage = el("div", {class: "stage"});
const caption = el("p", {class: "faint caption"}), lanes = el("div", {}), wrongRoot = el("section", {class: "panel side mistakes", "aria-label": "Mistakes"});
const below = el("div", {class: "stack"}), listRoot = el("div", {class: "stack"});
const button = (text, name, onclick) => el("button", {"aria-label": name, title: name, onclick}, text);
const zoom = [["−", .5, "Zoom out (−)"], ["+", 2, "Zoom in (+)"], ["Whole", 0, "See all (0)"]].map(([text, factor, name]) => button(text, name, () => timeline.zoom(factor)));
const tools = el("div", {class: "row tools"}, button("Previous mistake", "Previous mistake (Shift N)", () => nextMistake(-1)),
  button("Next mistake", "Next mistake (N)", () => nextMistake(1)), el("span", {class: "spread"}), ...zoom);
const work = el("div", {class: "work"},
  el("header", {class: "row"}, el("div", {class: "spread names"}, title, sentence), place, button("↑", "Clip before (Page up)", () => openBeside(-1)),
    button("↓", "Next clip (Page down)", () => openBeside(1))),
  el("div", {class: "top"}, el("div", {class: "pictured"}, stage, caption), el("div", {class: "stack"}, wrongRoot)),
  el("div", {class: "panel lanes"}, tools, lanes, el("p", {class: "faint"}, NOTE)), below);
const facts = el("p", {class: "faint about"}, [about.where, ...about.facts].filter(Boolean).join(" · "));
document.body.append(el("main", {class: "desk report"},
  el("header", {class: "desk-head"}, el("div", {class: "spread names"}, el("h1", {}, about.run), facts), el("button", {onclick: help, title: "Keys (?)"}, "Keys")),
  el("p", {class: "lead"}, about.sentence), notes(),
  el("details", {class: "panel files", open: true}, el("summary", {}, count(clips.length, "clip")), listRoot), work, numbers()));
const list = new List(listRoot, {open: index => open(index), orders: orders(), tags});
if (matchMedia("(max-width: 900px)").matches) find(".files").removeAttribute("open");

function notes() {
  const told = [...metrics.notes, ...metrics.judge?.notes ?? []];
  return el("details", {class: "notes"}, el("summary", {}, ["Settings", told.length ? count(told.length, "note") : ""].filter(Boolean).join(", ")),
    el("p", {}, about.settings), el("ul", {}, ...told.map(note => el("li", {}, note))));
}

function orders() {
  return [...names.map(name => [name, `worst ${name}`, worstFirst(name)]), ["id", "by id", (a, b) => a.title.localeCompare(b.title)]];
}

function tags(entry) {
  const by = list.order.value, many = WRONG.reduce((sum, name) => sum + (entry.metrics[name] ?? 0), 0);
  return [by === "id" ? null : el("span", {class: "tag"}, `${words(by)} ${number(by, entry.metrics[by])}`),
    many ? el("span", {class: "tag wrong"}, count(many, "mistake")) : null].filter(Boolean);
}

function numbers() {
  const datasets = Object.keys(metrics.rows.model.datasets), several = datasets.length > 1 ? datasets : [];
  const of = name => Object.fromEntries(Object.entries(metrics.rows).map(([row, values]) => [row, name === null ? values.all : values.datasets[name]]));
  const root = el("div", {class: "stack"}), show = name => root.replaceChildren(...metricTables(of(name), about.headlines, about.others).filter(Boolean));
  const select = el("select", {id: "dataset", "aria-label": "Dataset", onchange: () => show(select.selectedIndex ? several[select.selectedIndex - 1] : null)},
    ...["all clips", ...several].map(name => el("option", {}, name)));
  show(null);
  const judge = metrics.judge ? [el("h2", {}, "The judge's scores, 1 to 5"), el("p", {class: "faint"}, about.judge),
    judgeTable(metrics.judge, about.judge_spreads), el("p", {class: "faint"}, about.spreads)] : [];
  return el("section", {class: "panel numbers-panel stack", "aria-label": "Numbers"}, el("div", {class: "row"}, el("h2", {class: "spread"}, "Numbers, with 95% intervals"),
    several.length ? select : null), root, ...judge);
}

// --- a clip --------------------------------------------------------------------------------------------------------

function show(index) {
  shown = index;
  clip = clipOf(data(`clip-${index}`), clips[index].id, clips[index].speech_pairs ?? []);
  const made = lanesOf([{...clip, name: "model", settings: metrics.settings}]), range = {from: clip.first, to: clip.last + 1, rate: clip.fps, snap: 1};
  wrong = mistakes(made);
  title.textContent = clip.id;
  sentence.textContent = about.clips[index];
  list.update(index, {});
  const order = list.inOrder, here = order.findIndex(entry => entry.index === index);
  place.textContent = here < 0 ? `of ${clips.length}` : `${here + 1} of ${order.length}`;
  if (timeline === null) begin(range);
  timeline.setRange({...range, cursor: wrong.length ? wrong[0].at - .5 : clip.first});
  timeline.setLanes(made);
  drawStage();
  drawMistakes();
  const judged = judgedTable(metrics.judge, clips[index]);
  below.replaceChildren(...[transcript(clip, goTo), judged,
    el("details", {class: "panel side"}, el("summary", {}, "All numbers of this clip"), clipTable(clips[index].metrics, names))].filter(Boolean));
  moved();
}

function begin(range) {
  timeline = new Timeline(lanes, {...range, lanes: []});
  timeline.addEventListener("cursor", moved);
  timeline.addEventListener("choose", drawMistakes);
  tools.append(...exportButtons(timeline, () => ({name: clip.id, title: `${clip.id} · ${about.run}`, note: about.clips[shown] || NOTE})));
}

function drawStage() {
  player = null;
  stage.parentNode.hidden = !clip.thumbs.length;
  if (!clip.thumbs.length) return;
  const root = el("div", {}), [{width, height = 72}] = clip.thumbs, at = clip.first;
  root.style.aspectRatio = `${width} / ${height}`;
  stage.replaceChildren(root);
  player = new Player(root, {first: at, last: clip.last, fps: clip.fps, source: frame => nearest(clip, frame).source, alt: frame => `frame ${frame} of ${clip.id}`});
}

function moved() {
  if (player === null) return;
  const at = timeline.cursor, from = nearest(clip, at).at;
  player.frame = at;
  caption.textContent = from === at ? `Frame ${at}` : `Frame ${from}, the closest that is kept to frame ${at}`;
}

function drawMistakes() {
  const rows = wrong.map(item => el("li", {}, el("button", {class: "plain mistake", "aria-current": timeline.chosen === item.id ? "true" : null,
    onclick: () => timeline.goTo(item)}, el("span", {class: "faint"}, clock((item.at - .5) / clip.fps)),
    el("span", {}, el("strong", {}, item.error), ` · ${item.text.split("\n").slice(1).join(" · ")}`, el("small", {}, ` (${item.text.split("\n")[0].split(" · ").at(-1)})`)))));
  wrongRoot.replaceChildren(el("h2", {}, rows.length ? count(rows.length, "mistake") : "No mistakes"), el("ol", {class: "plain-list"}, ...rows));
  const current = find('[aria-current="true"]', wrongRoot);
  const panel = wrongRoot.parentNode;
  if (current) panel.scrollTop += current.getBoundingClientRect().top - panel.getBoundingClientRect().top - panel.clientHeight / 3;
}

function goTo(at) {
  timeline.choose(null, false);
  timeline.setCursor(at, false);
}

// The next mistake in time (by 1) or the one before (by -1); at the end, of the clip that comes next.
function nextMistake(by) {
  const here = wrong.findIndex(item => item.id === timeline.chosen);
  const next = here < 0 ? (by > 0 ? wrong.find(item => item.at > timeline.cursor) : wrong.findLast(item => item.at < timeline.cursor)) : wrong[here + by];
  if (next) timeline.goTo(next);
  else if (by < 0) say("This clip has no mistake before this.");
  else if (list.beside(1)) {
    openBeside(1);
    if (wrong.length) timeline.goTo(wrong[0]);
  } else say("This was the last mistake of the list.");
}

// --- which clip ----------------------------------------------------------------------------------------------------

function open(index) {
  history.pushState(null, "", `#clip=${encodeURIComponent(clips[index].id)}`);
  show(index);
}

function openBeside(by) {
  const entry = list.beside(by);
  if (entry) open(entry.index);
}

// The clip of the address; ids may repeat between datasets, so a click shows its own.
function choose() {
  const wanted = decodeURIComponent(location.hash.match(/^#clip=(.*)$/)?.[1] ?? ""), index = clips.findIndex(one => one.id === wanted);
  show(index >= 0 ? index : shown ?? list.inOrder[0].index);
}

function help() {
  keysDialog([["N", "next mistake; Shift: the one before"], ["PgUp, PgDn", "clip before, after"], ["← →", "one frame; Shift: ten"],
    ["↑ ↓", "choose in the next lane; Alt ← →: in the same"], ["+ − 0", "zoom; Ctrl with the wheel"], ["Home, End", "first, last frame"], ["Esc", "let go"]],
  "With the mouse: a click moves the cursor, a frame under the pointer is shown large; Shift and drag moves along.");
}

document.addEventListener("keydown", event => {
  if (document.querySelector("dialog[open]") || event.defaultPrevented || isTyping(event.target) || event.ctrlKey || event.metaKey) return;
  if (event.key.toLowerCase() === "n" && !event.altKey) nextMistake(event.shiftKey ? -1 : 1);
  else if (event.key === "?") help();
  else if (event.key === "PageUp" || event.key === "PageDown") openBeside(event.key === "PageUp" ? -1 : 1);
  else if (event.target.closest("button, summary") && event.key === "Enter") return;
  else if (event.target.closest(".scroll") && event.key.startsWith("Arrow")) return;
  else if (!timeline.key(event)) return;
  event.preventDefault();
});
window.addEventListener("hashchange", choose);
list.set(clips.map((one, index) => ({...one, index, title: one.id})), null);
if (clips.length) choose();
else work.hidden = true;
