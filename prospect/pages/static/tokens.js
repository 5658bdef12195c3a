// The tokens of a sequence as the model sees them, and what is learned at each: `token_data` of
// prospect/looking/token_view.py, drawn into an element (styles: tokens.css).
//
//   drawTokens(root, data, {onframe: index => ...});   // onframe: a click on a frame, or Enter
//
// What is known of a token under the pointer, or chosen with the arrows, is told at the foot. Every colour is a word or
// a mark too.

import {el} from "./dom.js";
import {count} from "./text.js";

const HEADINGS = {dst_update: "DST", frames: "frames"};
const TARGETS = {context: "masked", lm: "learned as text", dst_gen: "learned as DST"};

export function drawTokens(root, data, {onframe = null} = {}) {
  const told = el("p", {class: "tokens-told", role: "status", hidden: true});
  const flow = el("div", {class: "tokens-blocks", tabindex: 0, role: "group", "aria-label": "Tokens, in order"},
    ...data.blocks.map(block => drawnBlock(block, data)));
  const pieces = [...flow.querySelectorAll("[data-at]")];
  const items = new Map(data.blocks.flatMap(block => block.items.map(item => [item.at, item])));
  let chosen = -1;
  const choose = place => {
    pieces[chosen]?.classList.remove("chosen");
    chosen = Math.min(Math.max(place, 0), pieces.length - 1);
    pieces[chosen].classList.add("chosen");
    pieces[chosen].scrollIntoView({block: "nearest"});
    tell(pieces[chosen]);
  };
  const tell = piece => {
    told.hidden = false;
    told.textContent = sentence(items.get(Number(piece.dataset.at)), data);
  };
  const open = piece => { if (onframe && piece?.dataset.frame !== undefined) onframe(Number(piece.dataset.frame)); };
  flow.addEventListener("pointerover", event => { const piece = event.target.closest("[data-at]"); if (piece) tell(piece); });
  flow.addEventListener("click", event => {
    const piece = event.target.closest("[data-at]");
    if (piece) { choose(pieces.indexOf(piece)); open(piece); }
  });
  flow.addEventListener("keydown", event => {
    const by = {ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity}[event.key];
    if (by !== undefined && !event.altKey && !event.ctrlKey && !event.metaKey) choose(chosen + by);
    else if (event.key === "Enter") open(pieces[chosen]);
    else return;
    event.preventDefault();
  });
  root.classList.add("tokens");
  root.classList.toggle("opens", onframe !== null);
  root.replaceChildren(el("p", {class: "tokens-about"}, about(data)), legend(data.is_drawn), cut(data, "before"), flow, cut(data, "after"), told);
}

function about(data) {
  const size = `${count(data.num_tokens, "token")}, ${count(data.num_frames, "frame")} of ${data.image_tokens} × <image>`;
  if (data.unit === "sample") return `${size}; sample ${data.number} of ${data.count}, a sequence of its own (turn packing)`;
  if (data.count === 1) return `${size}; the whole clip in one part`;
  return `${size}; part ${data.number} of ${data.count}, frames ${data.first_frame} to ${data.last_frame}`;
}

// Where a window was full: before this part, or after it.
function cut(data, side) {
  if (data.unit !== "part" || (side === "before" ? data.number === 1 : data.number === data.count)) return el("span", {hidden: true});
  const text = side === "before" ? `Part ${data.number - 1} filled the window; this prompt carries on.`
    : `The window is full; part ${data.number + 1} begins with a prompt of its own.`;
  return el("p", {class: "tokens-cut"}, el("b", {}, "cut"), ` ${text}`);
}

function legend(isDrawn) {
  const sample = (kind, text, after = null) => el("span", {}, el("span", {class: `token ${kind}`}, text), after);
  return el("p", {class: "tokens-legend"}, sample("context", "masked"), sample("dst_gen", "learned: DST"), sample("lm", "learned: text"),
    el("span", {}, "decision learned there, (update, speak): ", drawnDecision([1, 0]), drawnDecision([0, 1]), drawnDecision([0, 0])),
    isDrawn ? el("span", {}, drawnDecision([0, 0], false), " silent, left out in the first epoch") : null);
}

function drawnBlock(block, data) {
  const isFrames = block.role === "frames";
  const heading = el("span", {class: "tokens-heading"}, HEADINGS[block.role] ?? block.role);
  const items = block.items.flatMap(item => isFrames ? [drawnFrame(item, data)] : drawnToken(item));
  return el("div", {class: `tokens-block role-${block.role}`}, heading, el("div", {class: "tokens-flow"}, ...items));
}

function drawnFrame(item, data) {
  const piece = el("span", {class: "token frame", "data-at": item.at, "data-frame": item.frame}, `frame ${item.frame}`,
    el("small", {}, ` ${data.image_tokens} × <image>`));
  return el("span", {class: "tokens-frame"}, piece, item.decision ? drawnDecision(item.decision, item.drawn)
    : el("span", {class: "decision none"}, "no label"));
}

function drawnToken(item) {
  const piece = el("span", {class: `token ${item.target}`, "data-at": item.at}, item.text.replaceAll("\n", "⏎"));
  const breaks = item.text.includes("\n") && !item.decision ? [el("br")] : [];
  return [piece, item.decision ? drawnDecision(item.decision) : null, ...breaks];
}

function drawnDecision([update, speak], drawn = null) {
  const word = update && speak ? "update and speak" : update ? "update" : speak ? "speak" : drawn === false ? "not drawn" : "silent";
  return el("span", {class: `decision ${word.split(" ")[0]}`}, `(${update},${speak}) ${word}`);
}

function sentence(item, data) {
  const decision = item.decision ? `; decision learned here: should_update_dst ${item.decision[0]}, when_to_speak ${item.decision[1]}`
    : item.frame !== undefined ? "; no decision is learned here" : "";
  const drawn = item.drawn === false ? " (not in the first epoch)" : "";
  if (item.frame !== undefined) return `tokens ${item.at - data.tokens_a_frame + 1} to ${item.at}: frame ${item.frame}, masked${decision}${drawn}`;
  return `token ${item.at}: ${JSON.stringify(item.text)}, id ${item.id}, ${TARGETS[item.target]}${decision}`;
}
