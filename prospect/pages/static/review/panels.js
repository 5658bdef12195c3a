// The panels beside the picture: steps at the cursor, what is chosen, problems, where the model disagrees.

import {el} from "../dom.js";
import {clock, count, stepName, updateName} from "../text.js";
import {verdict} from "./lanes.js";

const MARKS = {not_started: "○", in_progress: "◐", completed: "●"};
const SAID = {not_started: "not started", in_progress: "in progress", completed: "completed"};
const DONE = {
  accept: one => one.predicted === null ? "Remove it here" : one.reference === null ? "Take it over" : "Take the model's",
  shift: () => "Shift ours there",
  missed: () => "The annotator missed it",
};

// The steps with their states at a frame; a click brings one on there.
export function stepsPanel(view, at, mark, edit) {
  const rows = view.steps.map((step, place) => {
    const state = view.kind === "clips" ? stateAt(view.states[step.id] ?? [], at) : worked(view, step.id, at);
    const key = place < 9 ? String(place + 1) : place === 9 ? "0" : "";
    return el("li", {}, el("button", {class: `step ${state}`, title: `${step.name}: ${SAID[state]} at the cursor`, onclick: () => mark(step.id)},
      el("span", {class: "step-mark", "aria-hidden": "true"}, MARKS[state]), el("span", {class: "step-name"}, stepName(view.steps, step.id)),
      el("span", {class: "visually-hidden"}, SAID[state]), key ? el("kbd", {}, key) : null));
  });
  const none = el("p", {class: "faint"}, "No steps yet. Name them, then mark them with the digits.");
  const change = view.kind === "clips" ? el("button", {class: "plain", onclick: edit}, "Edit steps") : null;
  return el("section", {class: "panel side"}, el("header", {class: "row"}, el("h2", {class: "spread"}, "Steps"), change),
    rows.length ? el("ol", {class: "steps"}, ...rows) : none);
}

export function stateAt(changes, frame) {
  let state = changes[0]?.[1] ?? "not_started";
  for (const [from, after] of changes) if (from <= frame) state = after;
  return state;
}

function worked(view, step, at) {
  const own = view.spans.map(span => span.value).filter(value => value.step === step);
  if (own.some(value => value.start_s <= at && at < value.end_s)) return "in_progress";
  return own.some(value => value.end_s <= at && value.outcome !== "undone") ? "completed" : "not_started";
}

// What is chosen, with what can be changed there. `act`: change, settle.
export function chosenPanel(view, item, act) {
  if (item === null) return null;
  const {turn, bar, span, disagreement, ghost} = item.is;
  if (disagreement) return disagreementPanel(view, disagreement, act);
  if (turn) return turnPanel(view, turn, act);
  if (span) return spanPanel(view, span, act);
  if (bar) {
    const remove = edge => () => act.change({kind: "remove", turn: edge.turn, place: edge.place});
    return box(stepName(view.steps, bar.step), el("p", {}, item.text.split("\n")[1]), el("div", {class: "row"},
      bar.start ? el("button", {class: "danger", onclick: remove(bar.start)}, "Remove the start") : null,
      bar.end ? el("button", {class: "danger", onclick: remove(bar.end)}, "Remove the end") : null));
  }
  return ghost ? box("The model", el("p", {}, item.text)) : null;
}

function turnPanel(view, turn, act) {
  const where = `${clock(turn.start / view.fps)} to ${clock(turn.end / view.fps)} · frames ${turn.start}–${turn.end}`;
  const parts = [el("p", {class: "faint"}, where)];
  if (turn.role === "dst_update") {
    parts.push(el("ul", {class: "plain-list"}, ...turn.updates.map((update, place) => el("li", {class: "row"},
      el("span", {class: "spread"}, updateName(view.steps, update.step, update.transition)),
      el("button", {class: "danger", "aria-label": `Remove ${update.step} ${update.transition}`,
        onclick: () => act.change({kind: "remove", turn: turn.number, place})}, "Remove")))));
  } else {
    const text = el("textarea", {rows: 4, "aria-label": "Text", spellcheck: "true"});
    text.value = turn.text;
    const apply = () => {
      if (text.value.trim() && text.value !== turn.text) act.change({kind: "text", turn: turn.number, text: text.value});
    };
    text.addEventListener("change", apply);
    text.addEventListener("keydown", event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) text.blur();
      if (event.key === "Escape") { text.value = turn.text; text.blur(); }
    });
    parts.push(text, el("div", {class: "row"}, el("button", {class: "danger", onclick: () => act.change({kind: "remove", turn: turn.number})}, "Remove")));
  }
  for (const problem of turn.problems) parts.push(el("p", {class: "problem"}, problem));
  const names = {dst_update: "Update", assistant: "Assistant", user: "User", system: "System"};
  return box(`${names[turn.role] ?? "Turn"} (turn ${turn.number})`, ...parts);
}

function spanPanel(view, span, act) {
  const outcome = el("select", {"aria-label": "Outcome", onchange: () => act.change({kind: "outcome", span: span.number, outcome: outcome.value})},
    ...["done", "error", "undone"].map(one => el("option", {value: one, selected: one === (span.value.outcome ?? "done")}, one)));
  return box(stepName(view.steps, span.value.step), el("p", {class: "faint"}, `${clock(span.value.start_s)} to ${clock(span.value.end_s)}`),
    el("div", {class: "row"}, el("label", {class: "row"}, "Outcome", outcome),
      el("button", {class: "danger", onclick: () => act.change({kind: "remove_span", span: span.number})}, "Remove")),
    ...span.problems.map(problem => el("p", {class: "problem"}, problem)));
}

function disagreementPanel(view, one, act) {
  const place = event => event ? `${clock(event.frame / view.fps)}: ${event.text ?? updateName(view.steps, event.step, event.transition)}` : "nothing";
  return box(`Model and annotation: ${verdict(view, one).split(":")[0]}`,
    el("dl", {class: "pairs"}, el("dt", {}, "Model"), el("dd", {}, place(one.predicted)), el("dt", {}, "Annotation"), el("dd", {}, place(one.reference))),
    el("div", {class: "row"}, ...one.actions.map((action, number) => el("button", {class: one.predicted === null ? "danger" : number ? "" : "primary", onclick: () => act.settle(one.number, action)}, DONE[action](one))),
      el("button", {class: "plain", onclick: act.next}, "Next ", el("kbd", {}, "N"))));
}

export function comparedPanel(view, next) {
  const left = view.disagreements.length;
  if (!left && !view.compared && !view.ghosts.length) return null;
  return el("section", {class: "panel side row"}, el("p", {class: "spread"}, view.compared || (left
    ? `Model and annotation disagree at ${count(left, "place")}.` : "Model and annotation agree everywhere.")),
    el("button", {onclick: next}, "Next ", el("kbd", {}, "N")));
}

// All problems; a click goes to the turn.
export function problemsPanel(view, go) {
  const rows = view.problems.map(told => el("li", {class: "problem"}, told));
  const items = view.kind === "clips" ? view.turns.map(turn => [turn, `turn-${turn.number}`, turn.role === "dst_update" ? "update" : turn.role || "turn"])
    : view.spans.map(span => [span, `span-${span.number}`, "span"]);
  for (const [one, id, what] of items) for (const told of one.problems)
    rows.push(el("li", {}, el("button", {class: "plain problem", onclick: () => go(id)}, `${what} ${one.number}: ${told}`)));
  if (!rows.length) return null;
  return el("section", {class: "panel side problems", "aria-label": "Problems"}, el("h2", {}, count(view.num_problems, "problem")),
    el("ul", {class: "plain-list"}, ...rows));
}

function box(title, ...parts) {
  return el("section", {class: "panel side chosen-panel", "aria-live": "polite"}, el("h2", {}, title), ...parts);
}
