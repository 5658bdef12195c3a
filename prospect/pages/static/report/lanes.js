// What the timeline of an evaluated clip shows: the annotation beside the model, and both probabilities.

import {eventLane, lineLane, stepLanes} from "../events.js";

const HEADS = [["p_update", "P(state changes)", "update", "update_threshold"], ["p_speak", "P(speaks)", "speak", "speak_threshold"]];

// A clip's block, with its places as frames of the video; `pairs` are its matched utterances.
export function clipOf(block, id, pairs = []) {
  const {start} = block, moved = events => events.map(event => ({...event, at: event.at + start, due: event.due === null ? null : event.due + start}));
  const spans = side => Object.fromEntries(block.steps.map(step => [step.id, step[side].map(([from, to, state]) => [from + start, to + start, state])]));
  return {id, fps: block.fps, first: start, last: start + block.p_update.length - 1, steps: block.steps, p_update: block.p_update, p_speak: block.p_speak,
    restarts: block.restarts.map(at => at + start), lines: moved(block.lines), reference: spans("reference"), prediction: spans("prediction"),
    updates: [moved(block.reference_updates), moved(block.predicted_updates)], speech: [moved(block.reference_speech), moved(block.predicted_speech)],
    thumbs: block.thumbs.map(thumb => ({...thumb, at: thumb.at + start})), pairs};
}

export function similarity(clip, event, side) {
  const pair = clip.pairs.find(one => one[side] === event.at);
  return pair ? `similarity ${pair.score.toFixed(2)}` : "";
}

// One model or several on the same clip: [{...clipOf(...), name, settings}]. Of several, curves differ by their strokes too.
export function lanesOf(models) {
  const [clip] = models, {steps, fps} = clip, about = {steps, fps}, lanes = clip.thumbs.length ? [picturesLane(clip)] : [];
  for (const [name, label, look, threshold] of HEADS) if (steps.length || name === "p_speak")
    lanes.push({id: name, kind: "curve", label, height: 58, curves: models.map((model, place) => ({name: models.length > 1 ? model.name : label,
      look: place ? "system" : look, dash: place ? "5 3" : null, values: model[name], from: clip.first, threshold: model.settings[threshold]}))});
  for (const [key, label, isSpeech] of [["updates", "Updates", false], ["speech", "Utterances", true]]) if (isSpeech || steps.length) {
    const near = (model, side) => event => isSpeech ? similarity(model, event, side) : "";
    lanes.push(eventLane(`${key}-0`, `${label}, annotated`, annotated(models, key), {...about, isSpeech, look: "apart", near: near(clip, "reference")}),
      ...models.map((model, place) => eventLane(`${key}-${place + 1}`, `${label}, ${model.name}`, model[key][1], {...about, isSpeech, ghost: true, near: near(model, "predicted")})));
  }
  if (clip.lines.length) lanes.push(lineLane("lines", "User, system", clip.lines, fps));
  for (const [place, model] of models.entries()) if (model.restarts.length) lanes.push(lineLane(`restarts-${place}`,
    `Context restarts${models.length > 1 ? `, ${model.name}` : ""}`, model.restarts.map(at => ({at, role: "restart", text: "The context started over."})), fps));
  const sides = [{name: "annotated", spans: clip.reference}, ...models.map(model => ({name: model.name, ghost: true, spans: model.prediction}))];
  return [...lanes, ...stepLanes(steps, sides, fps)];
}

// The annotation's events. What one of several models missed, another may have found: it is said which did.
function annotated(models, key) {
  const [{[key]: [events]}] = models;
  return models.length === 1 ? events : events.map((event, place) => ({...event,
    errors: models.filter(model => model[key][0][place]?.errors.length).map(model => `missed by ${model.name}`)}));
}

function picturesLane(clip) {
  const [{width, height = 72}] = clip.thumbs;
  return {id: "frames", kind: "pictures", label: "Frames", aspect: width / height, only: clip.thumbs.map(thumb => thumb.at),
    prefer: clip.thumbs.filter(thumb => thumb.event).map(thumb => thumb.at), source: at => nearest(clip, at).source};
}

// The picture at a frame, or that which is closest to it.
export function nearest(clip, frame) {
  return clip.thumbs.reduce((a, b) => Math.abs(b.at - frame) < Math.abs(a.at - frame) ? b : a);
}

// The items that are mistakes, in time.
export function mistakes(lanes) {
  return lanes.flatMap(lane => lane.items ?? []).filter(item => item.error).sort((a, b) => a.at - b.at);
}
