// Numbers of an evaluation: a column a row of it, an interval below each value; the judge's scores.

import {data, el} from "../dom.js";
import {words} from "../text.js";

const AXES = ["correctness", "promptness", "efficiency", "overall"];

const WHOLE = new Set(data("about").whole);  // metrics that are counts

export function number(name, value) {
  return value === null || value === undefined ? "–" : WHOLE.has(name) ? String(value) : value.toFixed(3);
}

// A long name may break after its underscores.
function breakable(name) {
  return name.split(/(?<=_)/).flatMap(part => [part, el("wbr")]);
}

// rows: {model: {metrics, intervals}, ...}; names: of metrics, those behind `more` folded away.
export function metricTables(rows, names, more) {
  return [metricTable(rows, names), more.length ? el("details", {}, el("summary", {}, `${more.length} more metrics`), metricTable(rows, more)) : null];
}

function metricTable(rows, names) {
  const cell = (row, name) => {
    const interval = row.intervals[name], isWide = interval && interval[0] !== interval[1];
    return el("td", {class: "number"}, number(name, row.metrics[name]), isWide ? el("small", {}, `${interval[0].toFixed(2)} to ${interval[1].toFixed(2)}`) : null);
  };
  return scrolled(["", ...Object.keys(rows).map(words)], names.map(name => [breakable(name), ...Object.values(rows).map(row => cell(row, name))]));
}

export function judgeTable(judge, spreads) {
  const rows = Object.entries(judge.rows);
  const scores = AXES.map(axis => [axis, ...rows.map(([name, row]) => el("td", {class: "number"}, row.all.axes[axis].mean.toFixed(3), el("small", {}, spreads[name][axis])))]);
  return scrolled(["", ...rows.map(([name]) => words(name))], [...scores, ["clips", ...rows.map(([, row]) => el("td", {class: "number"}, String(row.all.num_clips)))]]);
}

// What the judge said of one clip, a line a repeat and row; null where it said nothing.
export function judgedTable(judge, {id, dataset}) {
  const lines = Object.entries(judge?.rows ?? {}).flatMap(([name, row]) => {
    const one = row.clips.find(other => other.id === id && other.dataset === dataset);
    return (one?.analyses ?? []).map((said, repeat) => [words(name), String(repeat + 1),
      ...AXES.map(axis => el("td", {class: "number"}, String(one.scores[axis][repeat] ?? "–"))), el("td", {class: "analysis"}, said ?? "no answer")]);
  });
  return lines.length ? scrolled(["judged", "repeat", ...AXES, "analysis"], lines) : null;
}

export function clipTable(metrics, names) {
  return el("div", {class: "pairs numbers"}, ...names.flatMap(name => [el("dt", {}, breakable(name)), el("dd", {}, number(name, metrics[name]))]));
}

function scrolled(heads, rows) {
  return el("div", {class: "scroll", tabindex: 0}, el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(head => el("th", {}, head)))),
    el("tbody", {}, ...rows.map(([name, ...cells]) => el("tr", {}, el("th", {scope: "row"}, name), ...cells.map(cell => typeof cell === "string" ? el("td", {}, cell) : cell))))));
}
