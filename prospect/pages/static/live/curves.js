// The last minute of both probabilities, each with the threshold that it is held against, to drag or to type.

import {el} from "../dom.js";
import {Timeline} from "../timeline.js";

const SECONDS = 60;
const HEADS = [["update", "State changes"], ["speak", "Speaks"]];

export class Curves {
  constructor(root, fps, asked) {
    Object.assign(this, {fps, asked, points: [], thresholds: {update: .5, speak: .5}, inputs: {}});
    const fields = HEADS.map(([head, name]) => {
      this.inputs[head] = el("input", {type: "number", min: 0, max: 1, step: .01, "data-head": head,
        onchange: event => { if (event.target.value !== "" && event.target.checkValidity()) asked(head, Number(event.target.value)); else this.setThresholds(this.thresholds, true); }});
      return el("label", {class: `fires look-${head}`}, el("span", {class: "swatch"}), `${name} at`, this.inputs[head]);
    });
    const lanes = el("div", {"aria-label": "The last minute of both probabilities"});
    this.lanes = HEADS.map(([head, name]) => ({id: head, label: name, kind: "curve", height: 66, curves: [
      {name: head, look: head, values: [], from: 0, threshold: .5, drag: true}]}));
    root.replaceChildren(el("div", {class: "row spread-row"}, el("h2", {}, "What the model decides"), el("span", {class: "spread"}), ...fields), lanes);
    this.timeline = new Timeline(lanes, {from: 0, to: SECONDS * fps, rate: fps, lanes: this.lanes});
    this.timeline.addEventListener("threshold", event => {
      this.setThresholds({...this.thresholds, [event.detail.curve]: event.detail.value});
      asked(event.detail.curve, event.detail.value);
    });
  }

  clear() {
    this.points = [];
    this.draw();
  }

  // points: [frame, update, speak, dropped before it, ms]
  add(points) {
    this.points.push(...points);
    this.draw();
  }

  setThresholds(thresholds, isForced = false) {
    this.thresholds = thresholds;
    for (const [at, [head]] of HEADS.entries()) {
      this.lanes[at].curves[0].threshold = thresholds[head];
      const input = this.inputs[head];
      if (isForced || document.activeElement !== input) input.value = String(Math.round(thresholds[head] * 1e4) / 1e4);
    }
    this.timeline.redraw();
  }

  setEnabled(isEnabled) {
    for (const [at, [head]] of HEADS.entries()) {
      this.inputs[head].disabled = !isEnabled;
      this.lanes[at].curves[0].drag = isEnabled;
    }
    this.timeline.redraw();
  }

  // A frame that was dropped has no value of its own: the curve stays where it was.
  draw() {
    const length = SECONDS * this.fps, last = this.points.length ? this.points.at(-1)[0] : 0;
    const to = Math.max(last + 1, length), from = to - length;
    this.points = this.points.filter(point => point[0] >= from);
    const first = this.points.length ? this.points[0][0] : 0, values = [[], []];
    for (const [frame, ...both] of this.points)
      for (const head of [0, 1]) while (values[head].length <= frame - first) values[head].push(frame - first === values[head].length ? both[head] : values[head].at(-1) ?? both[head]);
    for (const [at, lane] of this.lanes.entries()) Object.assign(lane.curves[0], {values: values[at], from: first});
    Object.assign(this.timeline, {from, to, seen: [from, to]});
    this.timeline.setCursor(last);
    this.timeline.redraw();
  }
}
