// Small plots with named axes, and the same numbers as a table below.

import {el, svg} from "../dom.js";

const WIDTH = 420, HEIGHT = 190, LEFT = 46, BOTTOM = 38, TOP = 10, RIGHT = 12, WIDEST = 60;

// A histogram: {title, unit, of, count, numbers, bins: [{from, to, count}]}.
export function histogram(plot) {
  if (!plot.count) return el("figure", {class: "panel side plot"}, el("h2", {}, plot.title), el("p", {class: "faint"}, `There are no ${plot.of}.`));
  const most = Math.max(...plot.bins.map(bin => bin.count)), scale = rounded(most);
  const wide = (WIDTH - LEFT - RIGHT) / plot.bins.length, y = value => HEIGHT - BOTTOM - value / scale * (HEIGHT - BOTTOM - TOP);
  const every = Math.ceil(plot.bins.length / 7), isWhole = plot.bins.every(bin => bin.to - bin.from === 1);
  const place = (at, number) => svg("text", {x: at, y: HEIGHT - BOTTOM + 15, "text-anchor": "middle"}, said(number));
  const drawing = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${plot.title}: ${summary(plot)}`},
    ...[0, .5, 1].map(share => svg("g", {}, svg("line", {class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(scale * share), y2: y(scale * share)}),
      Number.isInteger(scale * share) ? svg("text", {x: LEFT - 6, y: y(scale * share) + 4, "text-anchor": "end"}, said(scale * share)) : null)),
    ...plot.bins.map((bin, number) => svg("g", {}, svg("rect", {class: "column", x: LEFT + number * wide + 1, width: Math.max(Math.min(wide - 2, WIDEST), 1), y: y(bin.count),
      height: y(0) - y(bin.count)}), svg("title", {}, `${range(bin, isWhole)} ${plot.unit}: ${said(bin.count)} ${plot.of}`))),
    ...plot.bins.filter((_, number) => number % every === 0).map((bin, number) => place(LEFT + (number * every + (isWhole ? .5 : 0)) * wide, bin.from)),
    svg("text", {class: "axis", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle"}, plot.unit),
    svg("text", {class: "axis", x: 12, y: (HEIGHT - BOTTOM + TOP) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(HEIGHT - BOTTOM + TOP) / 2})`}, plot.of));
  return el("figure", {class: "panel side plot"}, el("h2", {}, plot.title), el("p", {class: "faint"}, summary(plot)), drawing,
    el("details", {}, el("summary", {}, "As a table"), table([plot.unit, plot.of], plot.bins.map(bin => [range(bin, isWhole), bin.count]))));
}

// A table; numbers stand at the right. Cells may be nodes.
export function table(heads, rows) {
  const isNumber = place => rows.length > 0 && rows.every(row => typeof row[place] === "number");
  const side = place => isNumber(place) ? "number" : null;
  return el("div", {class: "scroll"}, el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((head, place) => el("th", {scope: "col", class: side(place)}, head)))),
    el("tbody", {}, ...rows.map(row => el("tr", {}, ...row.map((cell, place) => el("td", {class: side(place)}, typeof cell === "number" ? said(cell) : cell)))))));
}

// Numbers beside bars that are as long.
export function bar(value, most) {
  return el("span", {class: "bar-cell"}, el("span", {class: "bar-number"}, said(value)),
    svg("svg", {viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true"}, svg("rect", {class: "column", width: most ? 100 * value / most : 0, height: 8})));
}

function summary(plot) {
  return [`${plot.of}: ${said(plot.count)}`, ...Object.entries(plot.numbers).map(([name, value]) => `${name} ${said(value)}`)].join(", ");
}

function range(bin, isWhole) {
  return isWhole ? said(bin.from) : `${said(bin.from)} to ${said(bin.to)}`;
}

export function said(value) {
  return value.toLocaleString("en", {maximumFractionDigits: 2});
}

// The next of 1, 2, 5, 10, ... that is even to be halved.
function rounded(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 6, 8, 10].map(one => one * power).find(one => one >= most);
}
