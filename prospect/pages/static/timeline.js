// A timeline: lanes (timeline_draw.js) over frames or seconds, with a cursor, zoom, and items that can be moved.
//
//   const timeline = new Timeline(root, {from: 0, to: 100, rate: 2, snap: 1, lanes, cursor: 0});
//   timeline.setLanes(lanes); timeline.cursor = 12; timeline.choose(id); timeline.zoom(2);
//
// Units are what `rate` of them make a second: frames (rate = fps), or seconds (rate 1, snap .1). Events:
//   cursor {at}, choose {item}, open {item} (double click, Enter), view {from, to}, threshold {curve, value},
//   preview {item, part, at} while an item is dragged, move {item, part, by} after it; part: body, from or to.
// Keys (`key(event)`, which the root listens to): arrows move the cursor, with shift by ten; up and down choose in the
// next lane, alt with left and right in the same; + - 0 zoom; Home, End; Enter opens; Escape lets go.

import {el, svg} from "./dom.js";
import {clock} from "./text.js";
import {drawLane, laneHeight, stacked, ticks} from "./timeline_draw.js";

const LEAST_UNITS = 12, MANY = 10, LARGE = 240, STILL = 3;  // STILL, pixels: less is a click, not a drag
const NAMED = {ArrowLeft: -1, ArrowRight: 1};

export class Timeline extends EventTarget {
  constructor(root, {from, to, rate, snap = 1, lanes = [], cursor = from, unit = "frame"}) {
    super();
    Object.assign(this, {root, rate, snap, unit, from, to, at: cursor, seen: [from, to], chosen: null, drag: null, waits: false});
    root.classList.add("timeline");
    root.tabIndex = 0;
    root.setAttribute("role", "application");
    if (!root.hasAttribute("aria-label")) root.setAttribute("aria-label", "Timeline: arrows move the cursor, + and - zoom");
    this.body = el("div", {class: "timeline-lanes"});
    this.line = el("div", {class: "timeline-cursor", "aria-hidden": "true"}, el("span"));
    this.axis = svg("svg", {class: "timeline-axis", "aria-hidden": "true"});
    this.window = el("div", {class: "timeline-window"});
    this.overview = el("div", {class: "timeline-overview", "aria-hidden": "true"}, this.window);
    this.told = el("p", {class: "timeline-told", "aria-live": "polite"});
    this.tip = el("div", {class: "timeline-tip", role: "tooltip", hidden: true});
    root.replaceChildren(el("div", {class: "timeline-area"}, this.body, this.line), el("div", {class: "timeline-foot"},
      el("div", {class: "timeline-label"}), this.axis), this.overview, this.told, this.tip);
    this.tracks = new Map();
    this.listen();
    this.setLanes(lanes);
    new ResizeObserver(() => this.redraw()).observe(this.axis);
  }

  // --- what others set -----------------------------------------------------------------------------------------

  setLanes(lanes) {
    this.lanes = lanes;
    for (const lane of lanes) if (lane.items) lane.rows = lane.numRows ?? stacked(lane.items);
    const rows = lanes.map(lane => {
      const track = svg("svg", {class: `timeline-track kind-${lane.kind}`, "data-lane": lane.id, height: laneHeight(lane)});
      const label = el("div", {class: "timeline-label", title: lane.hint ?? lane.label}, el("span", {}, lane.label));
      return [lane.id, track, el("div", {class: `timeline-lane ${lane.look ?? ""}`}, label, track)];
    });
    this.tracks = new Map(rows.map(([id, track]) => [id, track]));
    this.body.replaceChildren(...rows.map(([, , row]) => row));
    if (this.chosen !== null && !this.item(this.chosen)) this.chosen = null;
    this.redraw();
  }

  // Another range, e.g. of another clip, seen whole.
  setRange({from, to, rate = this.rate, snap = this.snap, cursor = from}) {
    Object.assign(this, {from, to, rate, snap, at: cursor, seen: [from, to], chosen: null});
    this.redraw();
  }

  get cursor() { return this.at; }

  // `quietly`: what others set is not told back to them.
  set cursor(at) { this.setCursor(at); }

  setCursor(at, quietly = true) {
    const wanted = Math.min(Math.max(this.snapped(at), this.from), this.to - this.snap);
    if (wanted === this.at) return;
    this.at = wanted;
    const [first, last] = this.seen;
    if (wanted < first) this.show(wanted, wanted + last - first);
    else if (wanted + this.snap > last) this.show(wanted + this.snap - (last - first), wanted + this.snap);
    this.drawCursor();
    if (!quietly) this.tell("cursor", {at: wanted});
  }

  item(id) {
    for (const lane of this.lanes) for (const item of lane.items ?? []) if (item.id === id) return item;
    return null;
  }

  choose(id, quietly = true) {
    this.chosen = id;
    const item = id === null ? null : this.item(id);
    this.told.textContent = item ? item.text.replaceAll("\n", " · ") + (item.error ? ` · ${item.error}` : "") : "";
    this.redraw();
    if (!quietly) this.tell("choose", {item});
  }

  // By a factor around the cursor, or around a place; 0: the whole.
  zoom(factor, around = this.at + this.snap / 2) {
    if (!factor) return this.show(this.from, this.to);
    const [first, last] = this.seen;
    const least = Math.min(LEAST_UNITS * this.snap, this.to - this.from);
    const wanted = Math.min(Math.max((last - first) / factor, least), this.to - this.from);
    const share = Math.min(Math.max((around - first) / (last - first), 0), 1);
    this.show(around - share * wanted, around + (1 - share) * wanted);
  }

  show(first, last) {
    const length = Math.min(last - first, this.to - this.from);
    const begin = Math.min(Math.max(first, this.from), this.to - length);
    this.seen = [begin, begin + length];
    this.redraw();
    this.tell("view", {from: begin, to: begin + length});
  }

  // --- drawing -------------------------------------------------------------------------------------------------

  get view() {
    const [from, to] = this.seen, width = Math.max(this.axis.clientWidth, 1);
    return {from, to, width, snap: this.snap, x: at => (at - from) / (to - from) * width};
  }

  redraw() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      if (this.axis.clientWidth) this.drawNow();  // else it is not on the page; once it is, its size changes
    });
  }

  drawNow() {
    const view = this.view;
    for (const lane of this.lanes) this.tracks.get(lane.id).replaceChildren(...drawLane(lane, view, this.chosen));
    this.axis.replaceChildren(...ticks(view, this.rate).flatMap(({seconds, x, digits}) => [
      svg("line", {x1: x, x2: x, y1: 0, y2: 5}),
      svg("text", {x: Math.min(x, view.width - 2), y: 17, "text-anchor": x < 14 ? "start" : x > view.width - 14 ? "end" : "middle"},
        clock(seconds, digits))]));
    const share = (this.seen[1] - this.seen[0]) / (this.to - this.from);
    this.overview.classList.toggle("idle", share > .999);
    this.window.style.left = `${100 * (this.seen[0] - this.from) / (this.to - this.from)}%`;
    this.window.style.width = `${100 * share}%`;
    this.drawCursor();
  }

  drawCursor() {
    const view = this.view, x = view.x(this.at + this.snap / 2), left = this.axis.getBoundingClientRect().left
      - this.root.getBoundingClientRect().left - this.root.clientLeft;
    this.line.style.left = `${left + x}px`;
    this.line.hidden = x < -1 || x > view.width + 1;
    const told = this.placeName(this.at);
    this.line.firstChild.textContent = told;
    this.line.classList.toggle("turned", x > view.width - 120);
    this.root.setAttribute("aria-description", told);
  }

  // --- pointer -------------------------------------------------------------------------------------------------

  listen() {
    this.body.addEventListener("pointerdown", event => this.press(event));
    this.axis.addEventListener("pointerdown", event => this.press(event));
    this.root.addEventListener("pointermove", event => this.pointed(event));
    this.root.addEventListener("pointerup", event => this.release(event));
    this.root.addEventListener("pointercancel", () => this.letGo());
    this.root.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.body.addEventListener("dblclick", event => {
      const item = this.itemAt(event.target);
      if (item) this.tell("open", {item});
    });
    this.root.addEventListener("wheel", event => this.wheel(event), {passive: false});
    this.root.addEventListener("keydown", event => {
      if (!event.defaultPrevented && this.key(event)) event.preventDefault();
    });
    this.overview.addEventListener("pointerdown", event => {
      this.root.setPointerCapture(event.pointerId);
      this.drag = {kind: "overview"};
      this.moveOverview(event);
    });
  }

  press(event) {
    if (event.button) return;
    const target = event.target, item = this.itemAt(target), at = this.placeOf(event);
    this.root.focus({preventScroll: true});
    if (target.dataset.curve !== undefined) this.drag = {kind: "threshold", curve: target.dataset.curve, track: target.closest("svg")};
    else if (item) {
      const part = target.dataset.part ?? "body";
      this.drag = {kind: "item", item, part: item.drag?.[part] ? part : null, start: at, x: event.clientX, before: {...item}, by: 0};
      this.choose(item.id, false);
    } else if (event.shiftKey && target.closest(".timeline-track")) this.drag = {kind: "pan", x: event.clientX, seen: [...this.seen]};
    else if (target.closest("svg")) {
      this.drag = {kind: "cursor"};
      this.choose(null, false);
      this.setCursor(target.dataset.at === undefined ? Math.floor(at / this.snap + 1e-9) * this.snap : Number(target.dataset.at), false);
    } else return;
    this.root.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  pointed(event) {
    const drag = this.drag;
    if (drag === null) return this.hover(event);
    this.tip.hidden = true;
    const at = this.placeOf(event);
    if (drag.kind === "cursor") this.setCursor(Math.floor(at / this.snap + 1e-9) * this.snap, false);
    else if (drag.kind === "overview") this.moveOverview(event);
    else if (drag.kind === "pan") {
      const by = (event.clientX - drag.x) / this.view.width * (drag.seen[1] - drag.seen[0]);
      this.show(drag.seen[0] - by, drag.seen[1] - by);
    } else if (drag.kind === "threshold") {
      const box = drag.track.getBoundingClientRect();
      const value = Math.min(Math.max(1 - (event.clientY - box.top - 5) / (box.height - 10), 0), 1);
      this.tell("threshold", {curve: drag.curve, value: Math.round(value * 100) / 100});
    } else if (drag.part !== null && (drag.by || Math.abs(event.clientX - drag.x) > STILL)) this.dragItem(drag, at);
  }

  dragItem(drag, at) {
    const {item, part, before} = drag, step = this.snap;
    let by = this.snapped(at - drag.start);
    if (part !== "to") by = Math.max(by, this.from - before.from);
    if (part !== "from") by = Math.min(by, this.to - before.to);
    if (part === "from") by = Math.min(by, before.to - before.from - step);
    if (part === "to") by = Math.max(by, before.from - before.to + step);
    drag.by = this.snapped(by);
    if (part !== "to") item.from = this.snapped(before.from + by);
    if (part !== "from") item.to = this.snapped(before.to + by);
    if (item.at !== undefined && part !== "from") item.at = before.at + by;
    const shown = part === "from" ? item.from : item.to - step;
    this.redraw();
    this.setCursor(shown);
    this.tell("preview", {item, part, at: shown});
  }

  release(event) {
    const drag = this.drag;
    this.drag = null;
    if (this.root.hasPointerCapture(event.pointerId)) this.root.releasePointerCapture(event.pointerId);
    if (drag?.kind !== "item") return;
    if (drag.by) this.tell("move", {item: drag.item, part: drag.part, by: drag.by});
    else this.setCursor(drag.part === "from" ? drag.item.from : drag.item.to - this.snap, false);
  }

  letGo() {
    const drag = this.drag;
    this.drag = null;
    if (drag?.kind !== "item") return false;
    Object.assign(drag.item, {from: drag.before.from, to: drag.before.to, at: drag.before.at});
    this.redraw();
    return true;
  }

  moveOverview(event) {
    const box = this.overview.getBoundingClientRect(), length = this.seen[1] - this.seen[0];
    const middle = this.from + (event.clientX - box.left) / box.width * (this.to - this.from);
    this.show(middle - length / 2, middle + length / 2);
  }

  wheel(event) {
    const length = this.seen[1] - this.seen[0];
    if (event.ctrlKey || event.metaKey) this.zoom(2 ** (-event.deltaY / 240), this.placeOf(event));
    else {
      const by = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
      if (Math.abs(by) <= Math.abs(event.shiftKey ? 0 : event.deltaY)) return;
      this.show(this.seen[0] + by / this.view.width * length, this.seen[1] + by / this.view.width * length);
    }
    event.preventDefault();
  }

  hover(event) {
    const item = this.itemAt(event.target), lane = this.laneAt(event.target);
    let text = item ? item.text + (item.error ? `\n${item.error}` : "") : "";
    if (!item && lane?.kind === "curve") text = this.valuesAt(lane, Math.floor(this.placeOf(event)));
    const pictured = lane?.kind === "pictures" ? event.target.dataset.at : undefined;
    if (pictured !== undefined) text = this.placeName(Number(pictured));
    this.tip.hidden = !text;
    if (!text) return;
    if (pictured === undefined) this.tip.replaceChildren(text);
    else if (this.tip.dataset.at !== pictured) this.tip.replaceChildren(el("img", {src: lane.source(Number(pictured), LARGE), alt: ""}), text);
    if (pictured === undefined) delete this.tip.dataset.at;
    else this.tip.dataset.at = pictured;
    const box = this.root.getBoundingClientRect(), wide = this.tip.offsetWidth;
    const left = Math.min(Math.max(event.clientX - box.left + 14, 4), Math.max(box.width - wide - 4, 4));
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${event.clientY - box.top + 18}px`;
  }

  valuesAt(lane, at) {
    const told = lane.curves.map(curve => [curve.name, curve.values[at - (curve.from ?? 0)]]).filter(([, value]) => value !== undefined);
    if (!told.length) return "";
    return [this.placeName(at),
      ...told.map(([name, value]) => `${name} ${value.toFixed(3)}`)].join("\n");
  }

  // --- keys ----------------------------------------------------------------------------------------------------

  key(event) {
    if (event.ctrlKey || event.metaKey) return false;
    const by = NAMED[event.key];
    if (by && event.altKey) this.chooseBeside(by);
    else if (event.altKey) return false;
    else if (by) this.setCursor(this.at + by * this.snap * (event.shiftKey ? MANY : 1), false);
    else if (event.key === "Home") this.setCursor(this.from, false);
    else if (event.key === "End") this.setCursor(this.to, false);
    else if (event.key === "+" || event.key === "=") this.zoom(2);
    else if (event.key === "-") this.zoom(.5);
    else if (event.key === "0" && this.seen[1] - this.seen[0] < this.to - this.from) this.zoom(0);
    else if (event.key === "ArrowUp") this.chooseLane(-1);
    else if (event.key === "ArrowDown") this.chooseLane(1);
    else if (event.key === "Enter" && this.chosen !== null) this.tell("open", {item: this.item(this.chosen)});
    else if (event.key === "Escape") {
      if (!this.letGo()) {
        if (this.chosen === null) return false;
        this.choose(null, false);
      }
    } else return false;
    return true;
  }

  chooseBeside(by) {
    const lane = this.lanes.find(one => one.items?.some(item => item.id === this.chosen)) ?? this.lanes.find(one => one.items?.length);
    if (!lane) return;
    const inOrder = [...lane.items].sort((a, b) => a.to - b.to || a.from - b.from);
    const here = inOrder.findIndex(item => item.id === this.chosen);
    this.goTo(inOrder[here < 0 ? 0 : Math.min(Math.max(here + by, 0), inOrder.length - 1)]);
  }

  chooseLane(by) {
    const filled = this.lanes.filter(lane => lane.items?.length);
    if (!filled.length) return;
    const here = filled.findIndex(lane => lane.items.some(item => item.id === this.chosen));
    const lane = filled[here < 0 ? (by > 0 ? 0 : filled.length - 1) : Math.min(Math.max(here + by, 0), filled.length - 1)];
    const away = item => Math.abs(item.to - this.snap - this.at);
    this.goTo(lane.items.reduce((a, b) => away(b) < away(a) ? b : a));
  }

  goTo(item) {
    this.setCursor(item.to - this.snap, false);
    this.choose(item.id, false);
  }

  // --- places --------------------------------------------------------------------------------------------------

  placeOf(event) {
    const box = this.axis.getBoundingClientRect();
    return this.seen[0] + (event.clientX - box.left) / Math.max(box.width, 1) * (this.seen[1] - this.seen[0]);
  }

  placeName(at) {
    return `${clock(at / this.rate)}${this.unit === "frame" ? ` · frame ${at}` : ""}`;
  }

  snapped(value) {
    return Math.round(Math.round(value / this.snap) * this.snap * 1000) / 1000;
  }

  itemAt(target) {
    const group = target.closest?.(".item");
    return group ? this.item(group.dataset.id) : null;
  }

  laneAt(target) {
    const track = target.closest?.(".timeline-track");
    return track ? this.lanes.find(lane => lane.id === track.dataset.lane) : null;
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, {detail}));
  }
}
