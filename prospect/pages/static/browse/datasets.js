// Datasets: what each split holds, in numbers and small plots, and what the checks and the audit say of it.

import {el} from "../dom.js";
import {clock, count} from "../text.js";
import {bar, histogram, said, table} from "./plots.js";
import {about, ask, link, published} from "./source.js";

export const datasets = {name: "datasets", label: "Datasets", show};

async function show(root, place) {
  if (place.length) return showSplit(root, place);
  const rows = about.datasets.splits.map(one => [el("a", {href: link("datasets", one.of.split("/"))}, one.of), one.clips, hours(one.seconds),
    one.updates, one.utterances, percent(one.silence), el("a", {href: link("clips", [], {of: one.of})}, "clips")]);
  root.append(el("h1", {}, "Datasets"), el("section", {class: "panel side"}, table(["Split", "Clips", "Length", "Updates", "Utterances", "Silence", ""], rows)));
}

async function showSplit(root, place) {
  const split = await ask("datasets", ["split", ...place]);
  const checks = el("section", {class: "panel side"}, el("h2", {}, "Checks of clips"));
  const audit = el("section", {class: "panel side"}, el("h2", {}, "Audit of labels"));
  root.append(el("header", {}, el("h1", {}, split.of), el("p", {class: "faint"}, [count(split.clips, "clip"), hours(split.seconds), count(split.updates, "update"),
    count(split.utterances, "utterance"), `${percent(split.silence)} silence`].join(" · "), " ", el("a", {href: link("clips", [], {of: split.of})}, "See its clips"))),
  el("div", {class: "plots"}, ...split.plots.map(histogram)), unseen(split),
  el("div", {class: "pair"}, steps(split), words(split)), el("div", {class: "pair"}, checks, audit));
  later(checks, ["checks", ...place], told => checked(told, split));
  const run = () => later(audit, ["audit", ...place], audited);
  if (published) run();
  else audit.append(el("p", {class: "faint"}, "Every label that a run would train, held against the annotations; of a large split this takes minutes."), el("button", {onclick: run}, "Audit it"));
}

// What takes longer is put in when it is there.
async function later(section, place, draw) {
  const title = section.firstChild;
  section.replaceChildren(title, el("p", {class: "faint"}, "Reading…"));
  try {
    section.replaceChildren(title, ...draw(await ask("datasets", place)));
  } catch (error) {
    section.replaceChildren(title, el("p", {class: "problem"}, error.message));
  }
}

function steps(split) {
  const names = split.transitions.filter((_, place) => split.steps.some(one => one.counts[place]));
  const most = Math.max(0, ...split.steps.flatMap(one => one.counts));
  const rows = split.steps.map(one => [el("a", {href: link("clips", [], {step: one.step, of: split.of})}, one.step),
    ...names.map(name => bar(one.counts[split.transitions.indexOf(name)], most))]);
  return el("section", {class: "panel side"}, el("h2", {}, "Steps and transitions"), rows.length ? el("p", {class: "faint"}, shownOf(rows.length, split.num_steps, "step")) : null,
    rows.length ? el("div", {class: "tall"}, table(["Step", ...names], rows)) : el("p", {class: "faint"}, "No step changes its state here."));
}

function words(split) {
  const most = Math.max(0, ...split.words.map(one => one.count));
  return el("section", {class: "panel side"}, el("h2", {}, "Words of utterances"), el("p", {class: "faint"}, shownOf(split.words.length, split.num_words, "word")),
    el("div", {class: "tall"}, table(["Word", "Times"], split.words.map(one => [el("a", {href: link("clips", [], {text: one.word, of: split.of})}, one.word), bar(one.count, most)]))));
}

function unseen(split) {
  const title = el("h2", {}, "Not seen in training");
  if (split.is_train) return el("section", {class: "panel side"}, title, el("p", {class: "faint"}, split.has_train ? "This is the training split; the others tell what they have beyond it."
    : "The training split is not among the paths given: nothing is held against it."));
  const parts = split.unseen.map(one => el("details", {}, el("summary", {}, `${one.title}: ${said(one.unseen)} of ${said(one.total)}`),
    table(["", "Times"], one.listed.map(entry => [el("span", {}, ...entry.steps.flatMap((step, place) => [place ? one.what === "pair" ? ", then " : "; " : null,
      el("a", {href: link("clips", [], {step, of: split.of})}, step)])), entry.count])), one.unseen > one.listed.length ? el("p", {class: "faint"}, shownOf(one.listed.length, one.unseen, "entry", "entries")) : null));
  return el("section", {class: "panel side stack"}, title, ...parts);
}

function checked(told) {
  const where = told.checked < told.total ? `of the first ${said(told.checked)} clips (prospect validate checks all)` : `of ${count(told.total, "clip")}`;
  const head = el("p", {}, told.with_problems ? `${said(told.with_problems)} ${where} have problems.` : `None ${where} has a problem.`);
  return [head, told.first.length ? el("ul", {class: "plain-list"}, ...told.first.map(one => el("li", {}, el("a", {class: "problem", href: link("clips", [one.key])}, one.text)))) : null].filter(Boolean);
}

function audited(told) {
  if (told.told) return [el("p", {class: "faint"}, told.told)];
  const rows = Object.entries(told.checks).map(([name, check]) => [name, check.compared, check.violations]);
  const first = Object.values(told.checks).flatMap(check => check.first);
  return [el("p", {class: "faint"}, `As ${told.config} trains them: prospect audit --config ${told.config}`), table(["Check", "Compared", "Violations"], rows),
    ...told.notes.map(note => el("p", {class: "faint"}, note)), el("ul", {class: "plain-list"}, ...first.map(one => el("li", {class: "problem"}, one)))];
}

function shownOf(shown, total, one, many = `${one}s`) {
  return shown < total ? `The ${said(shown)} most frequent of ${count(total, one, many)}.` : `${count(total, one, many)}.`;
}

function hours(seconds) {
  return seconds < 3600 ? `${clock(seconds, 0)} min` : `${said(Math.round(seconds / 360) / 10)} h`;
}

function percent(share) {
  return `${Math.round(100 * share)}%`;
}
