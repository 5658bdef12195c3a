// Clips: cards that can be filtered, and a clip's page. The filters stand in the address, so that it can be copied.

import {el} from "../dom.js";
import {count, words} from "../text.js";
import {showClip} from "./clip.js";
import {card} from "./cards.js";
import {matching} from "./filter.js";
import {about, ask, link, published} from "./source.js";

const PAGE = 24, TYPING_MS = 250;
const FILTERS = ["text", "step", "kind", "of", "run", "error"];

export const clips = {name: "clips", label: "Clips", show};

let kept = null;  // the cards as they were left: {address, page, y}

async function show(root, place, query) {
  if (place[0]) return showClip(root, place[0], query);
  if (kept?.address === location.hash) {
    root.append(...kept.nodes);
    const y = kept.y;
    root.addEventListener("shown", () => scrollTo(0, y));
  } else {
    await list(root, query);
  }
  const nodes = [...root.children];
  root.addEventListener("click", event => {
    if (event.target.closest("a.card-link")) kept = {address: location.hash, nodes, y: scrollY};
  });
}

async function list(root, query) {
  let asked = {...query}, shown = 0, timer = null, turn = 0;
  const told = el("p", {class: "faint", role: "status"}), grid = el("div", {class: "cards"});
  const more = el("button", {class: "more", onclick: () => add()}, "More");
  const fields = form(query, (name, value, soon) => {
    asked = {...asked, [name]: value};
    clearTimeout(timer);
    timer = setTimeout(() => {
      history.replaceState(null, "", link("clips", [], Object.fromEntries(FILTERS.map(one => [one, asked[one] ?? ""]))));
      fresh().catch(error => { told.textContent = error.message; });
    }, soon ? 0 : TYPING_MS);
  });

  async function cards(from) {
    if (!published) return ask("clips", ["cards"], {...asked, from, count: PAGE});
    const found = matching((await ask("clips", ["cards"])).cards, asked);
    return {total: found.length, cards: found.slice(from, from + PAGE)};
  }

  async function fresh() {
    const mine = ++turn, answer = await cards(0);
    if (mine === turn) put(answer, 0);
  }

  async function add() {
    const mine = turn, from = shown, answer = await cards(from);
    if (mine === turn && from === shown) put(answer, from);
  }

  function put(answer, from) {
    const made = answer.cards.map(one => card(one, asked.run));
    if (from) grid.append(...made);
    else grid.replaceChildren(...made);
    shown = from + made.length;
    const all = about.clips.count;
    told.textContent = answer.total === all ? count(all, "clip") : `${answer.total.toLocaleString("en")} of ${count(all, "clip")}`;
    if (!answer.total) told.textContent += "; take a filter away to see more";
    more.hidden = shown >= answer.total;
    more.textContent = `More (${(answer.total - shown).toLocaleString("en")} left)`;
  }

  const watch = new IntersectionObserver(entries => {
    if (entries.some(entry => entry.isIntersecting) && !more.hidden && more.isConnected) add().catch(() => {});
  }, {rootMargin: "600px"});
  watch.observe(more);
  root.append(el("h1", {}, "Clips"), fields, told, grid, more);
  await fresh();
}

// The fields of the filters; `changed(name, value, soon)`.
function form(query, changed) {
  const {of, steps, kinds, runs, errors} = about.clips;
  const choice = (name, label, all, values, say = words) => values.length ? el("label", {class: "field"}, label, el("select", {name, onchange: event => changed(name, event.target.value, true)},
    el("option", {value: ""}, all), ...values.map(value => el("option", {value, selected: value === query[name]}, say(value))))) : null;
  const typed = (name, label, hint, list) => {
    const input = el("input", {type: "search", name, placeholder: hint, list, oninput: event => changed(name, event.target.value.trim())});
    input.value = query[name] ?? "";
    return el("label", {class: "field"}, label, input);
  };
  return el("form", {class: "filters", role: "search", onsubmit: event => event.preventDefault()},
    typed("text", "Text", "What is said, or an id"), typed("step", "Step", "A step's name", "steps"),
    el("datalist", {id: "steps"}, ...steps.map(value => el("option", {value}))),
    choice("kind", "Has a turn of", "Any kind", kinds), of.length > 1 ? choice("of", "Split", "All", of, value => value) : null,
    choice("error", "The model's mistake", "Any or none", runs.length ? errors : []), runs.length > 1 ? choice("run", "Of", "Any run", runs, value => value) : null);
}
