// A clip's page: frames and lanes with one cursor, the steps there, its turns, the tokens it is trained as, and the
// command that shows the sample at the cursor. Nothing can be changed here; `prospect review` does that.

import {el, isTyping} from "../dom.js";
import {Player} from "../frames.js";
import {lanesOf, summary, verdict} from "../review/lanes.js";
import {stateAt} from "../review/panels.js";
import {clock, count, stepName, updateName, words} from "../text.js";
import {Timeline} from "../timeline.js";
import {mark} from "./cards.js";
import {commandPanel} from "./command.js";
import {ask, link, picture} from "./source.js";
import {tokensPanel} from "./tokens.js";

const STATES = {not_started: ["○", "not started"], in_progress: ["◐", "in progress"], completed: ["●", "completed"]};
const MARKS = {assistant: ["speech", "speak"], user: ["user", "user"], system: ["system", "system"]};
const ROLES = {dst_update: "Update", assistant: "Assistant", user: "User", system: "System"};
const OTHERS = ["select", "button", "a", "summary"];

let keys = null;  // of the clip that is shown

export async function showClip(root, key, query) {
  const view = await ask("clips", ["clip", key]);
  const runs = Object.keys(view.compared);
  const run = runs.includes(query.run) ? query.run : runs.find(one => view.compared[one].ghosts.length) ?? runs[0];
  Object.assign(view, {ghosts: [], disagreements: []}, view.compared[run] ?? {});
  const source = (index, height) => picture(key, index, height);
  const lanes = lanesOf(view, source);
  for (const lane of lanes) for (const item of lane.items ?? []) delete item.drag;
  const parts = {stage: el("div", {class: "stage"}), lanes: el("div"), steps: el("div")};
  const command = commandPanel(view), turns = turnsTable(view, turn => goTo(turn)), player = stageOf(view, source, parts.stage);
  const timeline = new Timeline(parts.lanes, {from: view.first, to: view.last + 1, rate: view.fps, lanes, cursor: at(view, query.frame)});

  function moved(frame, chosen = null) {
    if (player && !player.isPlaying) player.frame = frame;
    parts.steps.replaceChildren(stepsPanel(view, frame));
    turns.mark(frame, chosen);
    command.at(frame, chosen);
  }

  function goTo(turn) {
    timeline.cursor = turn.end;
    timeline.choose(`turn-${turn.number}`);
    moved(turn.end, turn);
  }

  timeline.addEventListener("cursor", event => moved(event.detail.at));
  timeline.addEventListener("choose", event => moved(timeline.cursor, event.detail.item?.is.turn ?? null));
  player?.addEventListener("frame", event => {
    if (!player.isPlaying) return;
    timeline.cursor = event.detail.frame;
    moved(event.detail.frame);
  });
  const play = el("button", {class: "play", title: "Play (Space)", disabled: player === null, onclick: () => player.toggle()}, "Play");
  player?.addEventListener("play", () => { play.textContent = "Pause"; });
  player?.addEventListener("pause", () => { play.textContent = "Play"; });
  const zoom = [["−", .5, "Zoom out"], ["+", 2, "Zoom in"], ["Whole", 0, "See all"]].map(([text, factor, name]) =>
    el("button", {"aria-label": name, onclick: () => timeline.zoom(factor)}, text));
  root.append(...[head(view, run, runs, key), el("div", {class: "top"}, parts.stage, el("div", {class: "stack"}, parts.steps, problemsPanel(view))),
    el("section", {class: "panel lanes", "aria-label": "Timeline"}, el("div", {class: "row tools"}, play, el("span", {class: "spread"}), ...zoom), parts.lanes),
    comparedPanel(view, run, one => goTo({...one, end: (one.predicted ?? one.reference).frame, number: -1})), command.root,
    el("section", {class: "panel side", "aria-label": "Turns"}, el("h2", {}, count(view.turns.length, "turn")), turns.root),
    tokensPanel(view, frame => { timeline.cursor = frame; moved(frame); })].filter(Boolean));
  moved(timeline.cursor);
  if (keys) removeEventListener("keydown", keys);
  keys = event => {
    if (!root.isConnected || event.defaultPrevented || isTyping(event.target) || OTHERS.includes(event.target.localName)) return;
    if (event.key === " ") player?.toggle();
    else if (event.target.closest?.(".tokens") || !timeline.key(event)) return;
    event.preventDefault();
  };
  addEventListener("keydown", keys);
  addEventListener("hashchange", () => player?.pause(), {once: true});
}

function at(view, frame) {
  const wanted = Number(frame ?? view.first);
  return Number.isInteger(wanted) && view.first <= wanted && wanted <= view.last ? wanted : view.first;
}

function head(view, run, runs, key) {
  const choose = runs.length > 1 ? el("label", {class: "field"}, "Beside the clip", el("select", {
    onchange: event => { location.hash = link("clips", [key], {run: event.target.value}); }},
  ...runs.map(one => el("option", {value: one, selected: one === run}, one)))) : null;
  return el("header", {class: "row clip-head"}, el("div", {class: "spread"}, el("h1", {}, view.title),
    el("p", {class: "faint"}, [view.of, summary(view), `${Math.round(100 * view.silence)}% silence`].join(" · ")),
    view.goal ? el("p", {}, el("span", {class: "faint"}, "Goal "), view.goal) : null), choose);
}

function stageOf(view, source, stage) {
  if (!view.frames.count) {
    stage.append(el("div", {class: "player empty"}, el("p", {class: "player-message"}, view.frames.missing || "There are no frames.")));
    return null;
  }
  const root = el("div");
  if (view.frames.aspect) root.style.aspectRatio = String(view.frames.aspect);
  stage.append(root);
  return new Player(root, {first: view.first, last: view.last, fps: view.fps, source, alt: index => `frame ${index} of ${view.title}`});
}

function stepsPanel(view, frame) {
  const rows = view.steps.map(step => {
    const state = stateAt(view.states[step.id] ?? [], frame), [sign, said] = STATES[state] ?? STATES.not_started;
    return el("li", {class: `step ${state}`}, el("span", {class: "step-mark", "aria-hidden": "true"}, sign),
      el("span", {class: "step-name"}, stepName(view.steps, step.id)), el("span", {class: "faint step-said"}, said));
  });
  return el("section", {class: "panel side"}, el("h2", {}, "Steps"),
    rows.length ? el("ol", {class: "steps"}, ...rows) : el("p", {class: "faint"}, "This clip has no steps."));
}

function problemsPanel(view) {
  const told = [...view.problems, ...view.turns.flatMap(turn => turn.problems.map(one => `turn ${turn.number}: ${one}`))];
  if (!told.length) return null;
  return el("section", {class: "panel side problems", "aria-label": "Problems"}, el("h2", {}, count(told.length, "problem")),
    el("p", {class: "faint"}, `In ${view.file}; prospect validate tells them too, prospect review mends them.`),
    el("ul", {class: "plain-list"}, ...told.map(one => el("li", {class: "problem"}, one))));
}

function comparedPanel(view, run, go) {
  if (run === undefined) return null;
  if (view.told) return el("p", {class: "panel side faint"}, `${run}: ${view.told}`);
  const listed = view.disagreements.map(one => el("li", {}, el("button", {class: "plain", onclick: () => go(one)},
    `${clock((one.predicted ?? one.reference).frame / view.fps)} `, el("b", {}, words(one.kind)), ` ${verdict(view, one).replace(`${words(one.kind)}: `, "")}`)));
  const said = listed.length ? `${run} and the annotation disagree at ${count(listed.length, "place")}` : `${run} and the annotation agree everywhere`;
  return el("section", {class: "panel side compared", "aria-label": "The model"}, el("h2", {}, said), el("ol", {class: "plain-list"}, ...listed));
}

// The turns in a table; the rows of the frame at the cursor are marked.
function turnsTable(view, go) {
  const rows = view.turns.map(turn => [turn, el("tr", {}, el("td", {class: "number"}, turn.end === null ? "" : el("button", {class: "plain time", onclick: () => go(turn)},
    clock(turn.end / view.fps))), el("td", {class: "role"}, el("span", {class: "row"}, ...marksOf(turn), ROLES[turn.role] ?? "?")),
  el("td", {}, turn.updates.length ? turn.updates.map(one => updateName(view.steps, one.step, one.transition)).join(", ") : turn.text),
  el("td", {class: "number faint frames"}, turn.end === null ? "" : turn.start === turn.end ? String(turn.end) : `${turn.start}–${turn.end}`))]);
  const table = el("table", {class: "turns"}, el("thead", {}, el("tr", {}, ...["Time", "Turn", "", "Frames"].map((name, place) =>
    el("th", {class: place === 0 || place === 3 ? "number" : null, scope: "col"}, name)))), el("tbody", {}, ...rows.map(([, row]) => row)));
  return {root: el("div", {class: "scroll turns-scroll"}, table), mark(frame, chosen) {
    for (const [turn, row] of rows) row.classList.toggle("here", chosen ? turn.number === chosen.number : turn.end === frame);
  }};
}

function marksOf(turn) {
  if (turn.role !== "dst_update") return turn.role in MARKS ? [mark(...MARKS[turn.role])] : [];
  return turn.updates.map(one => mark(one.transition, "update"));
}
