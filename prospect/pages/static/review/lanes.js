// What the timeline shows of a clip, or of a video's spans. Items carry `is`: what they are, for changes.

import {clock, count, duration, stepName, updateName, words} from "../text.js";

const LINES = [["assistant", "Assistant", "speak", "speech"], ["user", "User", "user", "user"], ["system", "System", "system", "system"]];
const SPAN_LOOKS = {done: "done", error: "wrong", undone: "progress"};

export function lanesOf(view, source) {
  return view.kind === "clips" ? clipLanes(view, source) : spanLanes(view, source);
}

function clipLanes(view, source) {
  const lanes = view.steps.map((step, place) => ({
    id: `step-${step.id}`, kind: "items", label: stepName(view.steps, step.id), hint: stepName(view.steps, step.id),
    items: view.bars.map((bar, number) => [bar, number]).filter(([bar]) => bar.step === step.id)
      .map(([bar, number]) => barItem(view, bar, number)), look: place ? "" : "apart"}));
  lanes.push({id: "updates", kind: "items", label: "Updates", look: "apart", items: turnsOf(view, "dst_update").map(turn => updateItem(view, turn))});
  for (const [role, label, look, shape] of LINES) {
    const items = turnsOf(view, role).map(turn => lineItem(view, turn, look, shape));
    if (items.length || role !== "system") lanes.push({id: role, kind: "items", label, items});
  }
  const broken = view.turns.filter(turn => turn.role === "" && turn.end !== null);
  if (broken.length) lanes.push({id: "broken", kind: "items", label: "Not readable", items: broken.map(turn => lineItem(view, turn, "wrong", "system"))});
  lanes.push(...ghostLanes(view));
  return [...pictures(view, source, view.turns.filter(turn => turn.end !== null && turn.role === "dst_update").map(turn => turn.end)), ...lanes];
}

function spanLanes(view, source) {
  const lanes = view.steps.map((step, place) => ({
    id: `step-${step.id}`, kind: "items", label: stepName(view.steps, step.id), look: place ? "" : "apart",
    items: view.spans.filter(span => span.value.step === step.id && isRange(span.value)).map(span => spanItem(view, span))}));
  return [...pictures(view, source, []), ...lanes];
}

function pictures(view, source, prefer) {
  if (!view.frames.count) return [];
  const rate = view.kind === "clips" ? 1 : view.fps;  // frames of a unit of the timeline
  return [{id: "frames", kind: "pictures", label: "Frames", aspect: view.frames.aspect || 1, prefer,
    from: view.kind === "clips" ? view.first : 0, to: view.kind === "clips" ? view.last : view.duration,
    source: (at, height) => source(Math.min(Math.floor(at * rate), view.frames.count - 1), height)}];
}

function barItem(view, bar, number) {
  const name = stepName(view.steps, bar.step), seconds = at => clock((at) / view.fps);
  const told = {completed: "completed", in_progress: "still in progress at the end", not_started: "taken back", wrong: "completed without a start"}[bar.state];
  return {id: `bar-${number}`, from: bar.from, to: bar.to, look: bar.state === "wrong" ? "wrong" : bar.state === "completed" ? "done" : "progress",
    shape: "bar", label: bar.state === "completed" ? duration((bar.to - 1 - bar.from) / view.fps) : told,
    text: `${name}\n${seconds(bar.from)} to ${seconds(bar.to - 1)}, ${told}`,
    drag: {from: bar.start !== null, to: bar.end !== null, body: bar.start !== null && bar.end !== null}, is: {bar}};
}

function updateItem(view, turn) {
  const names = turn.updates.map(update => updateName(view.steps, update.step, update.transition));
  const first = turn.updates[0]?.transition;
  return {...placed(view, turn), look: "update", shape: ["start", "complete", "reset"].includes(first) ? first : "system",
    label: turn.updates.map(update => `${update.step} ${update.transition}`).join(", "), text: `${when(view, turn)}\n${names.join("\n")}`};
}

function lineItem(view, turn, look, shape) {
  return {...placed(view, turn), look, shape, label: turn.text, text: `${when(view, turn)}\n${turn.text}`};
}

function placed(view, turn) {
  return {id: `turn-${turn.number}`, from: turn.start, to: turn.end + 1, at: turn.end + .5,
    error: turn.problems.join("\n"), drag: {body: true, from: true, to: true}, is: {turn}};
}

function when(view, turn) {
  const range = turn.start === turn.end ? `frame ${turn.end}` : `frames ${turn.start}–${turn.end}`;
  return `${clock(turn.end / view.fps)} · ${range}`;
}

function spanItem(view, span) {
  const {step, start_s, end_s, outcome = "done", method, confidence} = span.value;
  const about = [method, confidence === null || confidence === undefined ? "" : `confidence ${confidence}`].filter(Boolean).join(", ");
  return {id: `span-${span.number}`, from: start_s, to: Math.max(end_s, start_s + .05), look: SPAN_LOOKS[outcome] ?? "progress", shape: "bar",
    label: `${duration(end_s - start_s)}${outcome === "done" ? "" : ` ${outcome}`}`,
    text: `${stepName(view.steps, step)}\n${clock(start_s)} to ${clock(end_s)}, ${outcome}${about ? `\n${about}` : ""}`,
    error: span.problems.join("\n"), drag: {body: true, from: true, to: true}, is: {span}};
}

function isRange(value) {
  return typeof value.start_s === "number" && typeof value.end_s === "number";
}

// What the model did, dashed; each with how it disagrees.
function ghostLanes(view) {
  if (!view.ghosts.length && !view.disagreements.length) return [];
  const items = view.ghosts.map((ghost, number) => {
    const disagreement = view.disagreements.find(one => sameEvent(one.predicted, ghost));
    const text = ghost.text ?? updateName(view.steps, ghost.step, ghost.transition);
    return {id: `ghost-${number}`, from: ghost.frame, to: ghost.frame + 1, at: ghost.frame + .5, ghost: true,
      look: ghost.text === undefined ? "update" : "speak", shape: ghost.text === undefined ? ghost.transition : "speech",
      label: ghost.text ?? `${ghost.step} ${ghost.transition}`, error: disagreement ? verdict(view, disagreement) : "",
      text: `${clock(ghost.frame / view.fps)} · frame ${ghost.frame}\nthe model: ${text}`, is: {disagreement, ghost}};
  });
  const missed = view.disagreements.filter(one => one.predicted === null).map(one => ({
    id: `missed-${one.number}`, from: one.reference.frame, to: one.reference.frame + 1, at: one.reference.frame + .5, ghost: true,
    look: "wrong", shape: "system", label: "missed", error: verdict(view, one), text: `${clock(one.reference.frame / view.fps)} · frame ${one.reference.frame}`,
    is: {disagreement: one}}));
  return [
    {id: "ghost-updates", kind: "items", label: "Model: updates", look: "apart",
      items: [...items.filter(item => item.look === "update"), ...missed.filter(item => !item.is.disagreement.is_speech)]},
    {id: "ghost-speech", kind: "items", label: "Model: utterances",
      items: [...items.filter(item => item.look === "speak"), ...missed.filter(item => item.is.disagreement.is_speech)]}];
}

export function sameEvent(one, other) {
  return one !== null && other !== null && one.frame === other.frame && one.text === other.text && one.step === other.step
    && one.transition === other.transition;
}

// "late by 1.5 s", "missed by the model: S1 start: Take it"
export function verdict(view, one) {
  const name = event => event.text ?? updateName(view.steps, event.step, event.transition);
  const off = one.predicted && one.reference ? Math.abs(one.predicted.frame - one.reference.frame) / view.fps : 0;
  if (one.kind === "early" || one.kind === "late") return `${one.kind} by ${off.toFixed(1)} s`;
  if (one.kind === "missed") return `not seen by the model: ${name(one.reference)}`;
  if (one.kind.startsWith("wrong")) return `${words(one.kind)}: annotated is ${name(one.reference)}`;
  return `${words(one.kind)}: the annotation has nothing like it here`;
}

function turnsOf(view, role) {
  return view.turns.filter(turn => turn.role === role && turn.end !== null && turn.end >= view.first);
}

export function summary(view) {
  const length = view.kind === "clips" ? (view.last - view.first + 1) / view.fps : view.duration;
  const items = view.kind === "clips" ? count(view.turns.length, "turn") : count(view.spans.length, "span");
  return `${clock(length, 0)} long, ${count(view.steps.length, "step")}, ${items}`;
}
