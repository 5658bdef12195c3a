// The shell of browse: a navigation, and a section of pages for each word in it. The address behind # says what is
// shown: #SECTION/PLACE?QUERY. A section is {name, label, show(root, place, query)}; show may throw, which is told.

import {el, find} from "../dom.js";
import {clips} from "./clips.js";
import {datasets} from "./datasets.js";
import {runs} from "./runs.js";
import {about, here, link, published} from "./source.js";

// Here a module adds its section.
const SECTIONS = [clips, datasets, runs];

const known = SECTIONS.filter(section => section.name in about);
const root = el("div", {class: "browse-page"});
const navigation = el("nav", {class: "row browse-nav", "aria-label": "Pages"},
  ...known.map(section => el("a", {href: link(section.name), "data-section": section.name}, section.label)));
document.body.append(el("main", {class: "browse"}, el("header", {class: "row browse-head"}, navigation,
  published?.told ? el("p", {class: "faint"}, published.told) : null), root));

let turn = 0;  // a page that comes late, after another was asked for, is not shown

async function open() {
  const [name, place, query] = here(), mine = ++turn;
  const section = known.find(one => one.name === name) ?? known[0];
  for (const entry of navigation.children)
    if (entry.dataset.section === section.name) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  const page = el("div", {class: "stack"});
  root.setAttribute("aria-busy", "true");
  try {
    await section.show(page, section.name === name ? place : [], query);
  } catch (error) {
    page.replaceChildren(el("p", {class: "panel told wrong", role: "alert"}, error.message),
      el("p", {}, el("a", {href: link(section.name)}, section.label)));
  }
  if (mine !== turn) return;
  root.replaceChildren(page);
  root.removeAttribute("aria-busy");
  if (!find("h1", page)?.textContent) return;
  document.title = `${find("h1", page).textContent} – Browse`;
  page.dispatchEvent(new CustomEvent("shown"));  // it has a place and a width now
}

window.addEventListener("hashchange", open);
open();
