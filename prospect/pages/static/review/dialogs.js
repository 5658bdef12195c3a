// Small questions: what is said, which steps there are, where a video goes. Each gives its answer, or null.

import {el} from "../dom.js";
import {keysDialog} from "../keys.js";

// A text to be said; Enter takes it, Shift with Enter begins a line.
export function askText(title, value = "") {
  const text = el("textarea", {rows: 3, "aria-label": title, autofocus: true});
  text.value = value;
  text.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      text.closest("form").requestSubmit();
    }
  });
  return ask(title, [text, el("p", {class: "faint"}, el("kbd", {}, "Enter"), " takes it, ", el("kbd", {}, "Esc"), " leaves it")], "Add", () => text.value.trim() || null);
}

// "S1: Boil the water", a line a step.
export function askSteps(steps) {
  const text = el("textarea", {rows: 10, "aria-label": "Steps", class: "mono", spellcheck: "false"});
  text.value = steps.map(step => `${step.id}: ${step.name}`).join("\n");
  const hint = el("p", {class: "faint"}, "A step a line, ", el("span", {class: "mono"}, "S1: Boil the water"), ". Without an id a line gets the next one.");
  return ask("Steps", [text, hint], "Take them", () => {
    const lines = text.value.split("\n").map(line => line.trim()).filter(Boolean);
    return lines.map((line, place) => {
      const named = line.match(/^([A-Za-z0-9_.-]+)\s*:\s*(.+)$/);
      return named ? {id: named[1], name: named[2]} : {id: `S${place + 1}`, name: line};
    });
  });
}

export function askPlace(file, datasets, splits) {
  const select = (name, values) => el("select", {name}, ...values.map(value => el("option", {value}, value)));
  const dataset = select("dataset", datasets), split = select("split", splits);
  return ask("A new video", [el("p", {}, `${file.name} becomes frames, two a second, and an empty clip.`),
    el("div", {class: "row"}, el("label", {class: "row"}, "Dataset", dataset), el("label", {class: "row"}, "Split", split))], "Add it",
  () => ({dataset: dataset.value, split: split.value}));
}

// Sure of it? Gives true or null.
export function confirmed(title, text, action) {
  return ask(title, [el("p", {}, text)], action, () => true);
}

function ask(title, parts, action, answer) {
  return new Promise(resolve => {
    let given = null;
    const cancel = el("button", {type: "button", onclick: () => dialog.close()}, "Cancel");
    const form = el("form", {method: "dialog", class: "stack", onsubmit: event => {
      event.preventDefault();
      given = answer();
      if (given !== null) dialog.close();
    }}, el("h2", {}, title), ...parts, el("div", {class: "row"}, el("span", {class: "spread"}), cancel, el("button", {class: "primary"}, action)));
    const dialog = el("dialog", {"aria-label": title, onclose: () => {
      dialog.remove();
      resolve(given);
    }}, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function helpDialog() {
  const keys = [["← →", "one frame; Shift: ten"], ["Space", "play, pause"], ["1–9, 0", "start or complete a step; Shift: take it back"],
    ["A", "an utterance of the assistant"], ["U", "a line of the user"], ["↑ ↓", "choose in the next lane; Alt ← →: in the same"],
    ["Delete", "remove what is chosen"], ["Enter", "change its text"], ["Ctrl Z, Ctrl Y", "undo, redo"], ["Ctrl S", "save"],
    ["N", "next disagreement, worst first"], ["PgUp, PgDn", "clip before, after"], ["+ − 0", "zoom; Ctrl with the wheel"], ["Esc", "let go"]];
  keysDialog(keys, "With the mouse: drag a bar or its edges; click a lane to move the cursor; Shift and drag to move along.");
}
