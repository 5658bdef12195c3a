// A timeline as a picture: an SVG that needs nothing beside it, or a PNG of that. What is seen of it, in a width of its own.

import {el, svg} from "./dom.js";
import {complain} from "./notice.js";
import {clock, short} from "./text.js";
import {drawLane, laneHeight, ticks} from "./timeline_draw.js";

const WIDTH = 1200, LABELS = 230, PAD = 18, HEAD = 46, FOOT = 30, FINE = 2, NAME = 32;
const KEPT = ["stroke-width", "stroke-dasharray", "stroke-linejoin", "font-size", "font-weight"];

// Two buttons; `about()` gives {name: of the file, title, note: a line below it}.
export function exportButtons(timeline, about) {
  const button = (kind, made) => el("button", {title: `Save the timeline as ${kind}`, onclick: async () => {
    try {
      download(`${about().name.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 100)}.${kind.toLowerCase()}`, await made(await timelineSvg(timeline, about())));
    } catch (error) {
      complain(error);
    }
  }}, kind);
  return [button("SVG", text => new Blob([text], {type: "image/svg+xml"})), button("PNG", pngOf)];
}

export async function timelineSvg(timeline, {title, note}) {
  const width = WIDTH - LABELS - 2 * PAD, [from, to] = timeline.seen, left = PAD + LABELS;
  const view = {from, to, width, snap: timeline.snap, x: at => (at - from) / (to - from) * width}, parts = [];
  let top = HEAD + PAD;
  for (const lane of timeline.lanes) {
    const height = laneHeight(lane);
    parts.push(svg("line", {class: "grid", x1: PAD, x2: WIDTH - PAD, y1: top, y2: top}),
      svg("text", {class: "label", x: PAD, y: top + height / 2 + 4}, short(lane.label, NAME)),
      svg("svg", {x: left, y: top, width, height}, ...drawLane(lane, view, null)));
    top += height + 1;
  }
  parts.push(svg("line", {class: "grid", x1: left, x2: WIDTH - PAD, y1: top, y2: top}));
  for (const {seconds, x, digits} of ticks(view, timeline.rate))
    parts.push(svg("text", {class: "label", x: left + x, y: top + 18, "text-anchor": x < 14 ? "start" : x > width - 14 ? "end" : "middle"}, clock(seconds, digits)));
  const height = top + FOOT;
  const drawing = svg("svg", {class: "timeline-track", width: WIDTH, height, viewBox: `0 0 ${WIDTH} ${height}`},
    svg("rect", {class: "paper", width: WIDTH, height}), svg("text", {class: "export-title", x: PAD, y: PAD + 12}, short(title, 110)),
    svg("text", {class: "label", x: PAD, y: PAD + 32}, short(note, 150)), ...parts);
  const host = el("div", {class: "timeline timeline-export", "aria-hidden": "true"}, drawing);
  document.body.append(host);
  try {
    drawing.querySelectorAll(".handle").forEach(handle => handle.remove());
    for (const node of [drawing, ...drawing.querySelectorAll("*")]) styled(node);
    for (const image of drawing.querySelectorAll("image")) image.setAttribute("href", await dataUrl(image.getAttribute("href")));
    return new XMLSerializer().serializeToString(drawing);
  } finally {
    host.remove();
  }
}

// What the page's styles say of a node becomes its own; colours as any program reads them.
function styled(node) {
  const style = getComputedStyle(node);
  if (!["svg", "g", "image"].includes(node.localName)) {
    for (const name of KEPT) if (node.localName === "text" || !name.startsWith("font")) node.setAttribute(name, style.getPropertyValue(name));
    for (const name of ["fill", "stroke"]) {
      const [colour, opacity] = plainColour(style.getPropertyValue(name));
      node.setAttribute(name, colour);
      if (opacity < 1 && colour !== "none") node.setAttribute(`${name}-opacity`, opacity.toFixed(3));
    }
  }
  if (node.localName === "text") node.setAttribute("font-family", "system-ui, sans-serif");
  node.removeAttribute("class");
}

// "#rrggbb" (or "none") and its opacity, of any colour that CSS has.
function plainColour(colour) {
  if (colour === "none") return ["none", 1];
  const canvas = new OffscreenCanvas(1, 1), brush = canvas.getContext("2d", {willReadFrequently: true});
  brush.fillStyle = colour;
  brush.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
  return alpha ? [`#${[red, green, blue].map(part => part.toString(16).padStart(2, "0")).join("")}`, alpha / 255] : ["none", 1];
}

async function dataUrl(address) {
  if (address.startsWith("data:")) return address;
  const blob = await (await fetch(address)).blob();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function pngOf(text) {
  const address = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"})), image = new Image();
  try {
    image.src = address;
    await image.decode();
    const canvas = new OffscreenCanvas(FINE * image.naturalWidth, FINE * image.naturalHeight);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({type: "image/png"});
  } finally {
    URL.revokeObjectURL(address);
  }
}

function download(name, blob) {
  const address = URL.createObjectURL(blob);
  el("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
