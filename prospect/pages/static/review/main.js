// Review: one entry on a timeline, changed by mouse and keys. The server keeps the drafts, computes states, checks and
// writes; this page draws what it is given, and asks for one change after the other.

import {ApiError, get, post, upload} from "../api.js";
import {data, el, find, isTyping} from "../dom.js";
import {Player} from "../frames.js";
import {List} from "../list.js";
import {complain, say} from "../notice.js";
import {clock, count} from "../text.js";
import {Timeline} from "../timeline.js";
import {askPlace, askSteps, askText, confirmed, helpDialog} from "./dialogs.js";
import {ORDERS, tags, worst} from "./entries.js";
import {lanesOf, summary} from "./lanes.js";
import {chosenPanel, comparedPanel, problemsPanel, stepsPanel} from "./panels.js";

const TWO_DIGITS_MS = 600;
const about = data("about");
let view = null, player = null, timeline = null, line = Promise.resolve(), digits = "", digitsTimer = null, waiting = 0;
let passed = new Set(), seenClips = new Set();  // disagreements, and clips, that N has left behind

// --- the page ------------------------------------------------------------------------------------------------------

const title = el("h1", {}, "Review"), aboutLine = el("p", {class: "faint about"}), state = el("span", {class: "tag", role: "status"});
const button = (text, key, onclick, more = {}) => el("button", {onclick, title: `${text} (${key})`, ...more}, text);
const undoButton = button("Undo", "Ctrl Z", () => step("undo")), redoButton = button("Redo", "Ctrl Y", () => step("redo"));
const saveButton = button("Save", "Ctrl S", save, {class: "primary"});
const fileSelect = el("select", {"aria-label": "File", onchange: () => openFile(about.files[fileSelect.selectedIndex])},
  ...about.files.map(file => el("option", {}, `${file.dataset}/${file.name}`)));
const picker = el("input", {type: "file", accept: about.video_types.join(","), hidden: true, onchange: () => dropped(picker.files[0])});
const listRoot = el("div", {class: "stack"}), stage = el("div", {class: "stage"}), lanes = el("div", {}), side = el("div", {class: "stack"});
const playButton = button("Play", "Space", () => player?.toggle(), {class: "play"});
const zoomButtons = [["−", .5, "Zoom out"], ["+", 2, "Zoom in"], ["Whole", 0, "See all"]].map(([text, factor, name]) =>
  el("button", {"aria-label": name, onclick: () => timeline?.zoom(factor)}, text));
const speak = el("button", {onclick: () => addLine("assistant")}, "Utterance ", el("kbd", {}, "A"));
const ask = el("button", {onclick: () => addLine("user")}, "User line ", el("kbd", {}, "U"));
const tools = el("div", {class: "row tools"}, playButton, speak, ask, el("span", {class: "spread"}), ...zoomButtons);
const nothing = el("p", {class: "panel side faint", hidden: true});
const chosenRoot = el("div", {}), stepsRoot = el("div", {}), problemsRoot = el("div", {}), comparedRoot = el("div", {});
side.append(comparedRoot, chosenRoot, stepsRoot, problemsRoot);
const work = el("div", {class: "work", hidden: true}, el("div", {class: "top"}, stage, side), el("div", {class: "panel lanes"}, tools, lanes));
document.body.append(el("main", {class: "desk"},
  el("header", {class: "desk-head"}, el("div", {class: "spread names"}, title, aboutLine), el("div", {class: "row"}, state, undoButton, redoButton, saveButton,
    el("button", {onclick: helpDialog, title: "Keys (?)"}, "Keys"))),
  el("details", {class: "panel files", open: true}, el("summary", {}, "Clips"), el("div", {class: "stack"}, fileSelect, listRoot,
    el("button", {onclick: () => picker.click()}, "Add a video…"), picker)),
  el("div", {class: "stack"}, nothing, work)), el("div", {class: "drop", "aria-hidden": "true"}, "Drop a video: it becomes frames and an empty clip"));
const list = new List(listRoot, {open: index => openEntry(current.dataset, current.name, index), orders: ORDERS, tags});
let current = about.files[0];
if (matchMedia("(max-width: 900px)").matches) find(".files").removeAttribute("open");

// --- opening -------------------------------------------------------------------------------------------------------

const path = one => `${encodeURIComponent(one.dataset)}/${encodeURIComponent(one.file)}/${one.index}`;
const api = what => `/api/entry/${path(view)}${what ? `/${what}` : ""}`;

async function openFile(file, index = 0) {
  current = file;
  fileSelect.selectedIndex = about.files.indexOf(file);
  seenClips = new Set();
  list.set([], index);
  await openEntry(file.dataset, file.name, index);
  try {  // all entries are checked for the list: that may take longer than showing one
    const found = await get(`/api/files/${encodeURIComponent(file.dataset)}/${encodeURIComponent(file.name)}`);
    if (current !== file) return;
    list.set(found.entries, view?.index ?? index);
    if (!found.entries.length) showNothing(`${file.name} has no entries yet. Drop a video on this page to make one.`);
  } catch (error) {
    complain(error);
  }
}

function showNothing(text) {
  view = null;
  work.hidden = true;
  nothing.hidden = false;
  nothing.textContent = text;
  title.textContent = "Review";
  aboutLine.textContent = "";
}

async function openEntry(dataset, file, index) {
  await line;
  try {
    const next = await get(`/api/entry/${path({dataset, file, index})}`);
    passed = new Set();
    show(next, true);
    history.replaceState(null, "", `#${path(view)}`);
  } catch (error) {
    showNothing(error.message);
  }
}

// --- drawing -------------------------------------------------------------------------------------------------------

const source = (index, height) => `/frames/${path(view)}/${index}.jpg?h=${height}`;
const isClip = () => view.kind === "clips";
const frameAt = at => isClip() ? at : Math.min(Math.floor(at * view.fps), Math.max(view.frames.count - 1, 0));

function show(next, isNew = false) {
  view = next;
  nothing.hidden = true;
  work.hidden = false;
  title.textContent = view.title;
  aboutLine.textContent = summary(view);
  document.title = `${view.title} · review`;
  const range = isClip() ? {from: view.first, to: view.last + 1, rate: view.fps, snap: 1} : {from: 0, to: view.duration, rate: 1, snap: .1};
  if (isNew) {
    drawStage();
    if (timeline === null) makeTimeline(range);
    timeline.unit = isClip() ? "frame" : "second";
    timeline.setRange(range);
  } else Object.assign(timeline, {from: range.from, to: range.to});
  timeline.setLanes(lanesOf(view, source));
  undoButton.disabled = !view.can_undo;
  redoButton.disabled = !view.can_redo;
  saveButton.disabled = !view.is_changed;
  state.textContent = view.is_changed ? "Not saved" : "Saved";
  state.className = `tag ${view.is_changed ? "" : "good"}`;
  speak.hidden = ask.hidden = !isClip();
  list.update(view.index, {is_changed: view.is_changed, title: view.title, num_problems: view.num_problems,
    num_disagreements: view.disagreements.length, worst: view.disagreements[0]?.badness ?? 0});
  drawPanels();
}

function drawStage() {
  const range = isClip() ? {first: view.first, last: view.last} : {first: 0, last: Math.max(view.frames.count - 1, 0)};
  playButton.disabled = !view.frames.count;
  if (!view.frames.count) {
    player?.pause();
    player = null;
    stage.replaceChildren(el("div", {class: "player empty"}, el("p", {class: "player-message"}, view.frames.missing || "There are no frames.")));
    return;
  }
  const root = el("div", {style: null});
  if (view.frames.aspect) root.style.aspectRatio = String(view.frames.aspect);
  stage.replaceChildren(root);
  player?.pause();
  player = new Player(root, {...range, fps: view.fps, source, alt: index => `frame ${index} of ${view.title}`});
  player.addEventListener("frame", event => {
    if (player.isPlaying) moved(isClip() ? event.detail.frame : event.detail.frame / view.fps);
  });
  for (const name of ["play", "pause"]) player.addEventListener(name, () => { playButton.textContent = player?.isPlaying ? "Pause" : "Play"; });
}

function makeTimeline(range) {
  timeline = new Timeline(lanes, {...range, lanes: []});
  timeline.addEventListener("cursor", event => {
    player?.pause();
    showFrame(event.detail.at);
    drawSteps();
  });
  timeline.addEventListener("choose", drawChosen);
  timeline.addEventListener("preview", event => showFrame(event.detail.at));
  timeline.addEventListener("move", event => move(event.detail));
  timeline.addEventListener("open", () => find("textarea, select", chosenRoot)?.focus());
}

function showFrame(at) {
  if (player) player.frame = frameAt(at);
}

function moved(at) {
  timeline.cursor = at;
  drawSteps();
}

function drawPanels() {
  drawChosen();
  drawSteps();
  comparedRoot.replaceChildren(...[comparedPanel(view, nextDisagreement)].filter(Boolean));
  problemsRoot.replaceChildren(...[problemsPanel(view, goTo)].filter(Boolean));
}

// Once a frame of the screen, however fast the cursor moves.
function drawSteps() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(drawStepsNow);
}

function drawStepsNow() {
  if (view !== null) stepsRoot.replaceChildren(stepsPanel(view, timeline.cursor, id => mark(id), editSteps));
}

function drawChosen() {
  const item = timeline.chosen === null ? null : timeline.item(timeline.chosen);
  const act = {change, settle, next: nextDisagreement};
  chosenRoot.replaceChildren(...[chosenPanel(view, item, act)].filter(Boolean));
}

function goTo(id) {
  const item = timeline.item(id);
  if (item) timeline.goTo(item);
}

// --- changing ------------------------------------------------------------------------------------------------------

// One request after the other, each with the revision that the one before gave.
function send(what, value) {
  line = line.then(async () => {
    if (view === null) return null;
    const chosen = timeline.chosen;
    try {
      const next = await post(api(what), {revision: view.revision, ...value});
      show(next);
      return next;
    } catch (error) {
      if (error instanceof ApiError && error.status === 409 && what !== "save") {
        show(await get(api("")), false);
        timeline.choose(timeline.item(chosen) ? chosen : null);
      } else timeline.setLanes(lanesOf(view, source));  // what was dragged goes back
      throw error;
    }
  });
  const result = line;
  line = line.catch(() => null);
  return result.catch(error => {
    if (what === "save" && error.status === 409) offerReload(error);
    else complain(error);
    return null;
  });
}

function change(asked) {
  return send("change", {change: asked});
}

function step(what) {
  return send(what, {});
}

async function save() {
  const saved = await send("save", {});
  if (saved) say(`Saved to ${view.file}.`);
}

function offerReload(error) {
  const notice = complain(error);
  notice.append(el("button", {onclick: () => { notice.remove(); reload(); }}, "Reload"));
}

async function reload(drop = null) {
  try {
    await post(`/api/files/${encodeURIComponent(view.dataset)}/${encodeURIComponent(view.file)}/reload`, drop === null ? {} : {drop});
  } catch (error) {
    if (error.status !== 409) return complain(error);
    const sure = await confirmed("Changed here and on disk", `${error.message}.`, "Drop the changes to this clip");
    return sure ? reload(view.index) : null;
  }
  return openFile(current, view.index);
}

function move({item, part, by}) {
  const {turn, bar, span} = item.is;
  const start_by = part === "to" ? 0 : by, end_by = part === "from" ? 0 : by;
  if (turn) return change({kind: "move", turn: turn.number, start_by, end_by});
  if (span) return change({kind: "move_span", span: span.number, start_by, end_by});
  if (!bar) return null;
  const edges = [part === "to" ? null : bar.start, part === "from" ? null : bar.end].filter(Boolean);
  return change({kind: "move_edges", edges, by});
}

function mark(step, transition = null) {
  if (isClip()) return change({kind: "mark", frame: timeline.cursor, step, transition});
  return change({kind: "mark_span", step, at: timeline.cursor});
}

async function addLine(role) {
  if (view === null || !isClip()) return;
  player?.pause();
  const frame = timeline.cursor, who = role === "assistant" ? "The assistant says" : "The user says";
  const text = await askText(`${who} at ${clock(frame / view.fps)}`);
  if (text !== null) await change({kind: "say", frame, role, text});
}

async function editSteps() {
  const steps = await askSteps(view.steps);
  if (steps !== null) await change({kind: "steps", steps});
}

function removeChosen() {
  const is = timeline.chosen === null ? null : timeline.item(timeline.chosen)?.is;
  if (!is) return;
  if (is.turn) change({kind: "remove", turn: is.turn.number});
  else if (is.span) change({kind: "remove_span", span: is.span.number});
  else if (is.bar?.end) change({kind: "remove", turn: is.bar.end.turn, place: is.bar.end.place});
  else if (is.bar?.start) change({kind: "remove", turn: is.bar.start.turn, place: is.bar.start.place});
}

// --- the model's word ----------------------------------------------------------------------------------------------

async function settle(number, action) {
  await send("settle", {number, action});
}

const nameOf = one => JSON.stringify([one.kind, one.predicted, one.reference]);

// The worst that N has not passed yet; then the clip in which the model is worst.
async function nextDisagreement() {
  if (view === null) return;
  const next = view.disagreements.find(one => !passed.has(nameOf(one)));
  if (next) {
    passed.add(nameOf(next));
    const items = timeline.lanes.flatMap(lane => lane.items ?? []);
    const item = items.find(one => one.is.disagreement && nameOf(one.is.disagreement) === nameOf(next));
    if (item) timeline.goTo(item);
    return;
  }
  seenClips.add(view.index);
  const other = worst(list.entries, seenClips);
  if (other === null) {
    say(about.has_predictions ? "No more disagreements in this file." : "Pass --predictions to see where a model disagrees.");
    seenClips = new Set();
    passed = new Set();
    return;
  }
  await openEntry(current.dataset, current.name, other.index);
  await nextDisagreement();
}

// --- keys ----------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", event => {
  if (document.querySelector("dialog[open]") || event.defaultPrevented) return;
  const typing = isTyping(event.target), control = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  if (control && key === "s") save();
  else if (typing) return;
  else if (control && key === "z") step(event.shiftKey ? "redo" : "undo");
  else if (control && key === "y") step("redo");
  else if (control || view === null) return;
  else if (/^Digit\d$/.test(event.code) && !event.altKey && digit(event)) {}
  else if (event.key === " " && !(event.target instanceof HTMLButtonElement)) player?.toggle();
  else if (key === "a" && !event.altKey) addLine("assistant");
  else if (key === "u" && !event.altKey) addLine("user");
  else if (key === "n" && !event.altKey) nextDisagreement();
  else if (key === "?") helpDialog();
  else if (event.key === "Delete" || event.key === "Backspace") removeChosen();
  else if (event.key === "PageUp" || event.key === "PageDown") openBeside(event.key === "PageUp" ? -1 : 1);
  else if (event.target instanceof HTMLButtonElement && event.key === "Enter") return;
  else if (!timeline.key(event)) return;
  event.preventDefault();
});

// With ten steps or less a digit is a step; with more, two digits make one, or one and a moment.
function digit(event) {
  const typed = event.code.slice(5), many = view.steps.length > 10, transition = event.shiftKey ? "reset" : null;
  if (typed === "0" && !digits && view.steps.length < 10) return false;  // zoom
  clearTimeout(digitsTimer);
  digits += typed;
  const run = () => {
    const place = Number(digits) === 0 ? 9 : Number(digits) - 1;
    digits = "";
    if (view.steps[place]) mark(view.steps[place].id, isClip() ? transition : null);
    else say(`There is no step ${place + 1}; there ${view.steps.length === 1 ? "is" : "are"} ${count(view.steps.length, "step")}.`);
  };
  if (many && digits.length < 2 && Number(digits) * 10 <= view.steps.length) digitsTimer = setTimeout(run, TWO_DIGITS_MS);
  else run();
  return true;
}

function openBeside(by) {
  const entry = list.beside(by);
  if (entry) openEntry(current.dataset, current.name, entry.index);
}

// --- a new video ---------------------------------------------------------------------------------------------------

let entered = 0;
const hasFile = event => [...event.dataTransfer?.types ?? []].includes("Files");
document.addEventListener("dragenter", event => { if (hasFile(event)) { entered++; document.body.classList.add("dragging"); } });
document.addEventListener("dragleave", () => { entered = Math.max(entered - 1, 0); if (!entered) document.body.classList.remove("dragging"); });
document.addEventListener("dragover", event => { if (hasFile(event)) event.preventDefault(); });
document.addEventListener("drop", event => {
  if (!hasFile(event)) return;
  event.preventDefault();
  entered = 0;
  document.body.classList.remove("dragging");
  dropped(event.dataTransfer.files[0]);
});

async function dropped(file) {
  picker.value = "";
  if (!file) return;
  if (!about.video_types.some(type => file.name.toLowerCase().endsWith(type)))
    return complain(`${file.name}: found no video, expected one of ${about.video_types.join(", ")}`);
  if (file.size > about.most_bytes) return complain(`${file.name}: found ${(file.size / 1e9).toFixed(1)} GB, expected at most ${about.most_bytes / 1e9} GB`);
  const datasets = [...new Set(about.files.map(one => one.dataset))];
  const place = await askPlace(file, datasets, about.splits);
  if (place === null) return;
  const share = el("progress", {max: 1, value: 0, "aria-label": "Upload"}), notice = say(`${file.name}: `, "wrong");
  const {done, stop} = upload(`/api/videos/${encodeURIComponent(place.dataset)}?name=${encodeURIComponent(file.name)}&split=${place.split}`, file, at => {
    share.value = at;
    if (at >= 1) share.removeAttribute("value");  // sent; frames are being made
  });
  notice.classList.remove("wrong");
  notice.firstChild.append(share);
  notice.lastChild.textContent = "Stop";
  notice.lastChild.addEventListener("click", stop);
  try {
    const made = await done;
    say(`${file.name}: added. Name its steps, then mark them.`);
    if (!about.files.some(one => one.dataset === made.dataset && one.name === made.file)) {
      about.files.push({dataset: made.dataset, name: made.file, kind: "clips"});
      fileSelect.append(el("option", {}, `${made.dataset}/${made.file}`));
    }
    await openFile(about.files.find(one => one.dataset === made.dataset && one.name === made.file), made.index);
  } catch (error) {
    complain(error);
  }
  notice.remove();
}

// --- begin ---------------------------------------------------------------------------------------------------------

function fromAddress() {
  const [dataset, name, index] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const file = about.files.find(one => one.dataset === dataset && one.name === name);
  return openFile(file ?? about.files[0], file ? Number(index) || 0 : 0);
}

window.addEventListener("hashchange", fromAddress);
fromAddress();
