// A chart of lines, points and bars over one axis, with what stands under the pointer in words.
//
//   chart(root, {label, x: {from, to, label}, y: {from, to, label, isLog}, lines: [{name, look, points: [[x, y]], dash, dots, told}],
//                bars: [{from, to, value, look, told}], marks: [{x, look, label}], height})
//
// look: a colour by meaning, or "run-0" to "run-5"; dash: of its stroke, so that lines differ without colour; told: of a
// point ((x, y, place) => text) or a bar. Left and right arrows go from point to point of the first line.

import {el, svg} from "./dom.js";

const PAD = {left: 54, right: 14, top: 10, bottom: 40}, HEIGHT = 260, NEAR = 40;

export function chart(root, spec) {
  const drawing = svg("svg", {class: "chart-drawing", role: "img", "aria-label": spec.label}), told = el("p", {class: "chart-told", "aria-live": "polite"}, "");
  const legend = spec.lines.length > 1 ? el("ul", {class: "plain-list chart-legend"}, ...spec.lines.filter(line => line.name).map(line =>
    el("li", {class: `look-${line.look}`}, svg("svg", {width: 28, height: 10, "aria-hidden": "true"},
      svg("line", {class: "chart-line", x1: 0, x2: 28, y1: 5, y2: 5, "stroke-dasharray": line.dash})), line.name))) : null;
  root.classList.add("chart");
  root.tabIndex = 0;
  root.replaceChildren(...[legend, drawing, told].filter(Boolean));
  const height = spec.height ?? HEIGHT;
  let spots = [], chosen = -1;

  const draw = () => {
    const width = Math.max(root.clientWidth, 160), inner = {width: width - PAD.left - PAD.right, height: height - PAD.top - PAD.bottom};
    const x = value => PAD.left + (value - spec.x.from) / (spec.x.to - spec.x.from || 1) * inner.width, y = yScale(spec.y, inner.height), parts = [];
    spots = [];
    for (const value of yTicks(spec.y)) parts.push(svg("line", {class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y(value), y2: y(value)}),
      svg("text", {x: PAD.left - 8, y: y(value) + 4, "text-anchor": "end"}, short(value)));
    for (const value of roundTicks(spec.x.from, spec.x.to, Math.max(Math.floor(inner.width / 70), 2)))
      parts.push(svg("text", {x: x(value), y: height - PAD.bottom + 18, "text-anchor": "middle"}, short(value)));
    parts.push(svg("text", {class: "chart-axis", x: PAD.left + inner.width / 2, y: height - 4, "text-anchor": "middle"}, spec.x.label),
      svg("text", {class: "chart-axis", transform: `translate(11 ${PAD.top + inner.height / 2}) rotate(-90)`, "text-anchor": "middle"}, spec.y.label));
    for (const bar of spec.bars ?? []) {
      const top = y(bar.value), left = x(bar.from) + 1, wide = Math.max(x(bar.to) - x(bar.from) - 2, 1);
      parts.push(svg("rect", {class: `chart-bar look-${bar.look}`, x: left, y: top, width: wide, height: Math.max(height - PAD.bottom - top, 0)}));
      spots.push({x: left + wide / 2, y: top, text: bar.told});
    }
    for (const mark of spec.marks ?? []) {
      const at = x(mark.x), isRight = at > width - 110;
      parts.push(svg("line", {class: `chart-mark look-${mark.look}`, x1: at, x2: at, y1: PAD.top, y2: height - PAD.bottom}),
        svg("text", {class: "chart-mark-text", x: isRight ? at - 5 : at + 5, y: height - PAD.bottom - 7, "text-anchor": isRight ? "end" : "start"}, mark.label));
    }
    for (const line of spec.lines) {
      const shown = line.points.filter(([, value]) => value !== null && (!spec.y.isLog || value > 0));
      const path = shown.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join("L");
      if (path) parts.push(svg("path", {class: `chart-line look-${line.look}`, d: `M${path}${shown.length === 1 ? "h0" : ""}`, "stroke-dasharray": line.dash}));
      for (const [place, [at, value]] of shown.entries()) {
        if (line.dots) parts.push(svg("circle", {class: `chart-dot look-${line.look}`, cx: x(at), cy: y(value), r: 4}));
        if (line.told) spots.push({x: x(at), y: y(value), text: line.told(at, value, place)});
      }
    }
    const spot = spots[chosen];
    if (spot) parts.push(svg("circle", {class: "chart-spot", cx: spot.x, cy: spot.y, r: 6}));
    drawing.setAttribute("width", width);
    drawing.setAttribute("height", height);
    drawing.replaceChildren(...parts);
  };
  const choose = place => {
    if (place === chosen) return;
    chosen = place;
    told.textContent = spots[place]?.text ?? "";
    draw();
  };
  drawing.addEventListener("pointermove", event => {
    const box = drawing.getBoundingClientRect(), away = spot => Math.hypot(spot.x - (event.clientX - box.left), (spot.y - (event.clientY - box.top)) / 2);
    const nearest = spots.reduce((best, spot, place) => best < 0 || away(spot) < away(spots[best]) ? place : best, -1);
    choose(nearest >= 0 && away(spots[nearest]) < NEAR ? nearest : -1);
  });
  drawing.addEventListener("pointerleave", () => choose(-1));
  root.addEventListener("keydown", event => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!by || !spots.length) return;
    choose(Math.min(Math.max(chosen + by, 0), spots.length - 1));
    event.preventDefault();
  });
  new ResizeObserver(draw).observe(root);
  draw();
}

function yScale({from, to, isLog}, height) {
  const at = isLog ? Math.log10 : value => value, [low, high] = [at(from), at(to)];
  return value => PAD.top + (1 - (at(Math.max(value, isLog ? from : -Infinity)) - low) / (high - low || 1)) * height;
}

function yTicks({from, to, isLog}) {
  if (!isLog) return roundTicks(from, to, 5);
  const first = Math.ceil(Math.log10(from) - 1e-9), last = Math.floor(Math.log10(to) + 1e-9);
  return last > first ? Array.from({length: last - first + 1}, (_, number) => 10 ** (first + number)) : [from, to];
}

// Round values between two, about `most` of them.
function roundTicks(from, to, most) {
  const rough = (to - from) / most, size = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map(one => one * size).find(one => one >= rough - 1e-12), found = [];
  for (let number = Math.ceil(from / step - 1e-9); number * step <= to + 1e-9; number++) found.push(number * step);
  return found;
}

function short(value) {
  return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(0) : String(Number(value.toPrecision(4)));
}
