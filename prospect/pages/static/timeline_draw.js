// What a lane of the timeline looks like. Geometry only; timeline.js knows the pointer and the keys.
//
// A lane is {id, label, hint, kind, ...}:
//   items    items: [{id, from, to, at, look, shape, label, text, ghost, error, drag: {body, from, to}}]
//            from, to: units, `to` not part of it; at: where its mark stands; look: a colour by meaning (timeline.css);
//            shape: bar, start, complete, reset, speech, user, system; label: on it, where there is room;
//            text: said on hover; ghost: a dashed outline; error: a sentence, told by a mark
//   curve    curves: [{name, values, from, look, dash, threshold, drag}]: one value a unit from `from` on, 0 to 1
//            items that overlap are put into rows; with numRows of the lane each has its own `row`, from 0
//   pictures source: (at, height) => URL, aspect: width / height, prefer: [places that are shown where there is a choice],
//            only: [places that there are pictures of]; default: all

import {svg} from "./dom.js";
import {short} from "./text.js";

export const ROW = 26, BAR = 20, CURVE = 84, PICTURES = 64, LETTER = 6.7, LEAST_WIDTH = 5, HANDLE = 9, MARK = 16;
const STEPS_S = [.1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

// Marks that differ by shape too, around (0, 0), 12 pixels wide.
export const SHAPES = {
  start: "M-4,-6 L6,0 L-4,6 Z",
  complete: "M-6,-6 H6 V6 H-6 Z",
  reset: "M0,-6 L6,6 H-6 Z",
  speech: "M0,-6.5 L6.5,0 L0,6.5 L-6.5,0 Z",
  user: "M-6,0 A6,6 0 1 1 6,0 A6,6 0 1 1 -6,0 Z",
  system: "M-5,-5 L5,5 M-5,5 L5,-5",
};

// Rows of items that overlap: an item goes to the first row that is free at its beginning. Gives how many there are.
export function stacked(items) {
  const ends = [];
  for (const item of [...items].sort((a, b) => a.from - b.from || a.to - b.to)) {
    let row = ends.findIndex(end => end <= item.from);
    if (row < 0) row = ends.length;
    ends[row] = item.to;
    item.row = row;
  }
  return Math.max(ends.length, 1);
}

export function laneHeight(lane) {
  if (lane.kind === "curve") return lane.height ?? CURVE;
  if (lane.kind === "pictures") return lane.height ?? PICTURES;
  return lane.rows * ROW + 4;
}

// view: {from, to, width, x: at => pixels, snap}
export function drawLane(lane, view, chosen) {
  if (lane.kind === "curve") return drawCurves(lane, view);
  if (lane.kind === "pictures") return drawPictures(lane, view);
  const seen = lane.items.filter(item => item.to >= view.from && item.from <= view.to);
  seen.sort((a, b) => a.row - b.row || a.from - b.from);
  return seen.map((item, place) => {
    const next = seen[place + 1];
    const end = next && next.row === item.row ? view.x(next.from) : view.width;
    return drawItem(item, view, end, item.id === chosen);
  });
}

function drawItem(item, view, end, isChosen) {
  const hasMark = item.shape && item.shape !== "bar", mark = view.x(item.at ?? item.to);
  let left = view.x(item.from), width = Math.max(view.x(item.to) - left, LEAST_WIDTH);
  const isThin = hasMark && width < MARK;  // a pill around its mark, which can be hit
  if (isThin) [left, width] = [mark - MARK / 2, MARK];
  const top = item.row * ROW + (ROW - BAR) / 2 + 2, middle = top + BAR / 2;
  const names = ["item", `look-${item.look}`, item.ghost ? "ghost" : "", isChosen ? "chosen" : "", item.error ? "wrong" : ""];
  const group = svg("g", {class: names.filter(Boolean).join(" "), "data-id": item.id});
  group.append(svg("rect", {class: isThin ? "bar thin" : "bar", x: left, y: top, width, height: BAR, rx: isThin ? MARK / 2 : 4}));
  let textLeft = left + 7;
  if (hasMark) {
    group.append(svg("path", {class: "mark", d: SHAPES[item.shape], transform: `translate(${mark} ${middle})`}));
    textLeft = Math.max(mark + 11, left + width + 5);
  }
  if (item.error) {
    const badge = width < 3 * HANDLE ? left - 6 : left;
    group.append(svg("circle", {class: "badge", cx: badge, cy: top + 3, r: 5.5}),
      svg("text", {class: "badge-text", x: badge, y: top + 6.3, "text-anchor": "middle"}, "!"));
  }
  textLeft = Math.max(textLeft, 6);  // of an item that began before what is seen
  const room = Math.floor(((hasMark ? end : Math.min(left + width, view.width)) - textLeft - 6) / LETTER);
  if (item.label && room >= 2)
    group.append(svg("text", {class: "label", x: textLeft, y: middle + 4.2}, short(item.label, room)));
  for (const part of ["from", "to"]) if (item.drag?.[part]) {
    const x = part === "from" ? left - (width > 3 * HANDLE ? 2 : HANDLE - 2) : left + width - (width > 3 * HANDLE ? HANDLE - 2 : 2);
    group.append(svg("rect", {class: "handle", "data-part": part, x, y: top - 2, width: HANDLE, height: BAR + 4}));
  }
  return group;
}

function drawCurves(lane, view) {
  const height = laneHeight(lane), y = value => 5 + (1 - value) * (height - 10), parts = [];
  for (const value of [0, .5, 1])
    parts.push(svg("line", {class: "grid", x1: 0, x2: view.width, y1: y(value), y2: y(value)}));
  for (const curve of lane.curves) {
    parts.push(svg("path", {class: `curve look-${curve.look}`, d: curvePath(curve, view, y), "stroke-dasharray": curve.dash}));
    if (curve.threshold === undefined || curve.threshold === null) continue;
    const at = y(curve.threshold);
    const line = svg("g", {class: `threshold look-${curve.look}`},
      svg("line", {x1: 0, x2: view.width, y1: at, y2: at}));
    if (curve.drag)
      line.append(svg("rect", {class: "handle", "data-curve": curve.name, x: 0, y: at - 7, width: view.width, height: 14}));
    parts.push(line);
  }
  return parts;
}

// Of more values than pixels, the highest in each pixel: what a threshold is held against is never hidden.
function curvePath(curve, view, y) {
  const from = curve.from ?? 0;
  const first = Math.max(Math.floor(view.from - from) - 1, 0);
  const last = Math.min(Math.ceil(view.to - from) + 1, curve.values.length - 1);
  const each = Math.max(Math.floor((last - first) / Math.max(view.width, 1)), 1), points = [];
  for (let at = first; at <= last; at += each) {
    let highest = curve.values[at];
    for (let other = at + 1; other < Math.min(at + each, last + 1); other++) highest = Math.max(highest, curve.values[other]);
    points.push(`${view.x(from + at + view.snap / 2).toFixed(1)},${y(highest).toFixed(1)}`);
  }
  return points.length ? `M${points.join("L")}${points.length === 1 ? "h0" : ""}` : "";
}

// Slots stand at multiples of their own length, so that moving on shows the same pictures at other places.
function drawPictures(lane, view) {
  const height = laneHeight(lane), wide = Math.max(height * lane.aspect, 16);
  const units = (view.to - view.from) / Math.max(view.width / (wide + 2), 1);
  const slot = view.snap * 2 ** Math.max(Math.ceil(Math.log2(units / view.snap)), 0), parts = [];
  for (let begin = Math.floor(view.from / slot) * slot; begin < view.to; begin += slot) {
    const middle = begin + Math.floor(slot / view.snap / 2) * view.snap;
    const nearest = places => (places ?? []).filter(place => place >= begin && place < begin + slot)
      .sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle))[0];
    const wanted = nearest(lane.prefer) ?? (lane.only ? nearest(lane.only) : middle);
    if (wanted === undefined) continue;
    const at = Math.min(Math.max(wanted, lane.from ?? view.from), lane.to ?? view.to);
    if (at < begin || at >= begin + slot) continue;
    const x = view.x(begin), width = Math.min(view.x(begin + slot) - x - 2, wide);
    parts.push(svg("image", {href: lane.source(at, height * 2), x, y: 0, width, height, preserveAspectRatio: "xMidYMid slice", "data-at": at}));
  }
  return parts;
}

// Places of round times, with at least 70 pixels for each.
export function ticks(view, rate) {
  const [from, to] = [view.from / rate, view.to / rate], most = Math.max(view.width / 70, 1);
  const step = STEPS_S.find(one => (to - from) / one <= most) ?? Math.ceil((to - from) / most / 3600) * 3600;
  const found = [];
  for (let number = Math.ceil(from / step - 1e-9); number * step <= to; number++)
    found.push({seconds: number * step, x: view.x(number * step * rate), digits: step < 1 ? 1 : 0});
  return found;
}
