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

export function lanesOf(clip, settings) {
  const {steps, fps} = clip, about = {steps, fps}, speech = {...about, isSpeech: true}, lanes = [];
  if (clip.thumbs.length) {
    const [{width, height = 72}] = clip.thumbs;
    lanes.push({id: "frames", kind: "pictures", label: "Frames", aspect: width / height, only: clip.thumbs.map(thumb => thumb.at),
      prefer: clip.thumbs.filter(thumb => thumb.event).map(thumb => thumb.at), source: at => nearest(clip, at).source});
  }
  for (const [name, label, look, threshold] of HEADS) if (steps.length || name === "p_speak")
    lanes.push({id: name, kind: "curve", label, height: 58, curves: [{name: label, look, values: clip[name], from: clip.first, threshold: settings[threshold]}]});
  if (steps.length) lanes.push(eventLane("updates-0", "Updates, annotated", clip.updates[0], {...about, look: "apart"}),
    eventLane("updates-1", "Updates, model", clip.updates[1], {...about, ghost: true}));
  lanes.push(eventLane("speech-0", "Utterances, annotated", clip.speech[0], {...speech, look: "apart", near: event => similarity(clip, event, "reference")}),
    eventLane("speech-1", "Utterances, model", clip.speech[1], {...speech, ghost: true, near: event => similarity(clip, event, "predicted")}));
  if (clip.lines.length) lanes.push(lineLane("lines", "User, system", clip.lines, fps));
  if (clip.restarts.length) lanes.push(lineLane("restarts", "Context restarts", clip.restarts.map(at => ({at, role: "restart", text: "The context started over."})), fps));
  const sides = [{name: "annotated", spans: clip.reference}, {name: "model", ghost: true, spans: clip.prediction}];
  return [...lanes, ...stepLanes(steps, sides, fps)];
}

// The picture at a frame, or that which is closest to it.
export function nearest(clip, frame) {
  return clip.thumbs.reduce((a, b) => Math.abs(b.at - frame) < Math.abs(a.at - frame) ? b : a);
}

// The items that are mistakes, in time.
export function mistakes(lanes) {
  return lanes.flatMap(lane => lane.items ?? []).filter(item => item.error).sort((a, b) => a.at - b.at);
}
