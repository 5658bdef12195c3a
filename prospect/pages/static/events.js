// Lanes of what happened in a clip, for the timeline: states of steps, updates, lines, mistakes. Places are frames.
//
// An event is {at, text, errors, due}: its frame, an update ("S1->start") or an utterance, the kinds of its mistakes,
// and the frame at which it was due, where that is another one (null: none).

import {clock, stepName, updateName, words} from "./text.js";

const STATES = {in_progress: ["progress", "in progress"], completed: ["done", "completed"]};

// A lane a step: a row for each side, above each other. sides: [{name, ghost, spans: {step: [[from, to, state]]}}]
export function stepLanes(steps, sides, fps) {
  return steps.map((step, place) => ({id: `step-${place}`, kind: "items", label: stepName(steps, step.id), look: place ? "" : "apart",
    numRows: sides.length, items: sides.flatMap((side, row) => (side.spans[step.id] ?? []).filter(([, , state]) => STATES[state])
      .map(([from, to, state], number) => ({id: `step-${place}-${row}-${number}`, from, to, row, ghost: side.ghost, look: STATES[state][0],
        shape: "bar", label: STATES[state][1],
        text: `${stepName(steps, step.id)}\n${side.name}: ${STATES[state][1]} from ${clock(from / fps)} to ${clock((to - 1) / fps)}`})))}));
}

// One side's updates or utterances; `near` gives a line more to say of an event. An item reaches to where it was due.
export function eventLane(id, label, events, {steps, fps, isSpeech = false, ghost = false, look = "", near = () => ""}) {
  return {id, kind: "items", label, look, items: events.map((event, number) => {
    const update = isSpeech ? null : parsedUpdate(event.text, steps), place = `${clock(event.at / fps)} · frame ${event.at}`;
    const due = event.due ?? event.at;
    return {id: `${id}-${number}`, from: Math.min(event.at, due), to: Math.max(event.at, due) + 1, at: event.at + .5, ghost,
      look: isSpeech ? "speak" : "update", shape: isSpeech ? "speech" : update?.transition ?? "system", label: update ? `${update.step} ${update.transition}` : event.text,
      error: verdict(event, fps), text: [`${place} · ${label.toLowerCase()}`, update ? updateName(steps, update.step, update.transition) : event.text, near(event)]
        .filter(Boolean).join("\n"), is: {event}};
  })};
}

export function lineLane(id, label, lines, fps) {
  return {id, kind: "items", label, items: lines.map((line, number) => ({id: `${id}-${number}`, from: line.at, to: line.at + 1, at: line.at + .5,
    look: line.role === "user" ? "user" : "system", shape: line.role === "user" ? "user" : "system", label: line.text,
    text: `${clock(line.at / fps)} · frame ${line.at} · ${line.role}\n${line.text}`}))};
}

// "S1->start" of a known step; null of anything else.
export function parsedUpdate(text, steps) {
  const [, step, transition] = text.match(/^(.+)->(start|complete|reset)$/) ?? [];
  return steps.some(one => one.id === step) ? {step, transition} : null;
}

// "late by 1.5 s, wrong step"; "" where nothing is wrong.
export function verdict(event, fps) {
  const off = event.due === null ? 0 : Math.abs(event.at - event.due) / fps;
  return event.errors.map(kind => kind === "early" || kind === "late" ? `${kind} by ${off.toFixed(1)} s` : words(kind)).join(", ");
}
