// The steps, what was said, and the figures at the foot.

import {el} from "../dom.js";
import {clock, count, stepName, words} from "../text.js";

const MARKS = {not_started: "○", in_progress: "▶", completed: "✔"};
const NEXT = {not_started: "in_progress", in_progress: "completed", completed: "not_started"};
const NAMES = {assistant: "Assistant", user: "You", system: "System", dst_update: "State", note: "Note"};
const MOST_LINES = 1000;

// The checklist. `correct(step, state)`: null where it may only be looked at.
export function checklist(steps, state, waiting, correct) {
  if (!steps.length) return [el("p", {class: "faint"}, "A task without steps: the model only speaks.")];
  const done = steps.filter(step => state[step.id] === "completed").length;
  const rows = steps.map(step => {
    const shown = waiting[step.id] ?? state[step.id] ?? "not_started", isWaiting = step.id in waiting && waiting[step.id] !== state[step.id];
    const next = NEXT[shown];
    return el("li", {}, el("button", {class: `step ${shown} ${isWaiting ? "waiting" : ""}`, "data-step": step.id, "data-state": shown, disabled: correct === null,
      title: correct === null ? words(shown) : `${words(shown)}; a click says that it is ${words(next)}`, onclick: () => correct(step.id, next)},
    el("span", {class: "step-mark", "aria-hidden": "true"}, MARKS[shown]),
    el("span", {class: "step-name"}, `${step.id} ${step.name}`),
    el("span", {class: "step-state"}, isWaiting ? `${words(shown)}, from the next frame on` : words(shown))));
  });
  return [el("p", {class: "faint", role: "status"}, `${done} of ${count(steps.length, "step")} completed`), el("ol", {class: "steps"}, ...rows)];
}

// The words of an event: updates with the names of their steps.
export function eventText(event, steps) {
  if (event.role !== "dst_update") return event.text;
  return event.text.split(", ").map(update => {
    const at = update.lastIndexOf("->");
    return at < 0 ? update : `${stepName(steps, update.slice(0, at))}: ${words(update.slice(at + 2))}`;
  }).join("; ");
}

export class Transcript {
  constructor(root) {
    this.list = el("ol", {class: "transcript", tabindex: 0, "aria-label": "Transcript"});
    this.empty = el("p", {class: "faint"}, "Nothing was said yet.");
    root.replaceChildren(this.empty, this.list);
  }

  clear() {
    this.list.replaceChildren();
    this.empty.hidden = false;
  }

  add(events, steps) {
    if (!events.length) return;
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    this.empty.hidden = true;
    this.list.append(...events.map(event => el("li", {class: `line ${event.role}`},
      el("time", {}, clock(event.time_s)), el("span", {class: "who"}, NAMES[event.role] ?? event.role), el("span", {class: "text"}, eventText(event, steps)))));
    while (this.list.children.length > MOST_LINES) this.list.firstChild.remove();
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }
}

const ms = value => value === undefined ? "–" : `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;

export function figures(foot, view, unsent) {
  const none = foot.frames === undefined;
  const pairs = [
    ["Latency, p50 / p95", none ? "–" : `${ms(foot.p50_ms)} / ${ms(foot.p95_ms)}`, "of the last minute: from when a frame was there to its last decision"],
    ["Behind", none ? "–" : `${foot.lag_s.toFixed(1)} s`, "how long the last frame waited for the model"],
    ["Frames", none ? "–" : foot.frames.toLocaleString("en"), "that the model saw"],
    ["Dropped", none ? "–" : `${foot.dropped.toLocaleString("en")} of ${(foot.frames + foot.dropped).toLocaleString("en")}`, "frames that the model did not see: it was behind, and took the newest"],
    ["Window", none ? "–" : `${foot.tokens.toLocaleString("en")} of ${foot.window.toLocaleString("en")} tokens`, "what the model has in its context"],
    ["Restarts", none ? "–" : foot.restarts.toLocaleString("en"), "of the context: it was full, or a state was corrected"],
  ];
  if (view.is_camera && foot.repeated) pairs.push(["Pictures late", foot.repeated.toLocaleString("en"), "frames for which the camera sent none: the one before stood in"]);
  if (unsent) pairs.push(["Not sent", unsent.toLocaleString("en"), "pictures: the connection is too slow for them"]);
  return pairs.map(([name, value, hint]) => el("div", {class: `figure ${name === "Dropped" && foot.dropped ? "told" : ""}`, title: hint}, el("dt", {}, name), el("dd", {}, value),
    name === "Dropped" && foot.dropped ? el("dd", {class: "why"}, "the model was behind, and took the newest") : null));
}
