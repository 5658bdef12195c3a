// How far the probabilities of both heads can be trusted, and what their thresholds are: charts, and the same as tables.
// The block `about`: {title, where, facts, notes, heads: [{id, look, name, sentences, bins, f1, threshold}], grid} (pages/reliability.py).

import {chart} from "../chart.js";
import {data, el} from "../dom.js";
import {count} from "../text.js";

const about = data("about");
const UNIT = {from: 0, to: 1};

function section(head) {
  const spread = el("div", {}), counts = el("div", {}), swept = el("div", {}), most = Math.max(...head.bins.map(bin => bin[2]), 1);
  const told = ([mean, share, number]) => `says ${mean.toFixed(3)}: ${share.toFixed(3)} of ${count(number, "decision")} are`;
  const parts = [el("figure", {}, el("figcaption", {}, "Of the decisions with this probability, how many are"), spread),
    el("figure", {}, el("figcaption", {}, "How many decisions there are, by probability"), counts)];
  if (head.f1) parts.push(el("figure", {}, el("figcaption", {}, "F1 of its events by threshold, the other head as annotated"), swept));
  const made = el("section", {class: "panel head"}, el("h2", {}, head.name), ...head.sentences.map(text => el("p", {}, text)), el("div", {class: "charts"}, ...parts),
    el("details", {}, el("summary", {}, "The numbers"), table(head)));
  const draw = () => {
    const probability = {...UNIT, label: "probability"};
    chart(spread, {label: `${head.name}: reliability`, x: probability, y: {...UNIT, label: "share"}, lines: [
      {name: "perfect", look: "faint", dash: "2 5", points: [[0, 0], [1, 1]]},
      {name: head.id, look: head.look, dots: true, points: head.bins, told: (_, __, place) => told(head.bins[place])}], marks: [mark(head)]});
    chart(counts, {label: `${head.name}: decisions by probability`, height: 200, x: probability, y: {from: .5, to: 2 * most, isLog: true, label: "decisions"}, lines: [],
      bars: head.bins.map(bin => ({from: bin[3], to: bin[4], value: bin[2], look: head.look, told: told(bin)}))});
    if (head.f1) chart(swept, {label: `${head.name}: F1 by threshold`, x: {...UNIT, label: "threshold"}, y: {...UNIT, label: "F1"}, lines: [
      {name: "F1", look: head.look, points: head.f1.map((f1, place) => [about.grid[place], f1]), told: (at, f1) => `threshold ${at}: F1 ${f1.toFixed(3)}`}], marks: [mark(head)]});
  };
  return [made, draw];
}

function mark(head) {
  return {x: head.threshold, look: head.look, label: `threshold ${head.threshold}`};
}

function table(head) {
  const rows = head.bins.map(([mean, share, number, from, to]) => el("tr", {}, ...[`${from.toFixed(3)} to ${to.toFixed(3)}`, mean.toFixed(3), share.toFixed(3), number.toLocaleString("en")]
    .map(text => el("td", {class: "number"}, text))));
  return el("div", {class: "scroll", tabindex: 0}, el("table", {}, el("thead", {}, el("tr", {}, ...["probability", "its mean", "share that are", "decisions"].map(name => el("th", {class: "number"}, name)))),
    el("tbody", {}, ...rows)));
}

const sections = about.heads.map(section);
document.body.append(el("main", {class: "stack"}, el("header", {}, el("h1", {}, about.title), el("p", {class: "faint"}, about.facts.join(" · "))),
  ...about.notes.map(note => el("p", {class: "faint"}, `note: ${note}`)), ...sections.map(([made]) => made)));
for (const [, draw] of sections) draw();
