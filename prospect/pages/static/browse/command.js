// The command that shows in a terminal what stands in the shards at the cursor, to copy.

import {el} from "../dom.js";
import {complain, say} from "../notice.js";

const ACTIVE = ["dst_update", "assistant"];

// {root, at(frame, turn)}: the sample of a turn, or that in which a frame is.
export function commandPanel(view) {
  const key = el("span", {class: "mono"}), command = el("input", {class: "mono", readonly: true, "aria-label": "Command", onfocus: () => command.select()});
  const copied = () => copy(command.value, command);
  const root = el("section", {class: "panel side command", "aria-label": "In the shards"}, el("h2", {}, "In the shards"),
    view.samples.length ? el("p", {}, el("span", {class: "faint"}, "Key of the sample at the cursor "), key)
      : el("p", {class: "faint"}, "Its samples, once shards are built (prospect build-shards); among the paths given are none with this clip."),
    el("div", {class: "row"}, command, el("button", {onclick: copied}, "Copy")));
  const active = view.turns.filter(turn => ACTIVE.includes(turn.role) && turn.end !== null).sort((a, b) => a.end - b.end);
  const events = view.samples.filter(sample => sample.kind !== "silent");
  const sampleAt = (frame, turn) => events[active.findIndex(one => one.number === turn?.number)]
    ?? events.find(one => one.end_frame === frame) ?? view.samples.find(one => one.start_frame <= frame && frame <= one.end_frame) ?? view.samples[0];
  return {root, at(frame, turn) {
    const sample = view.samples.length ? sampleAt(frame, turn) : null;
    key.textContent = sample ? sample.key : "";
    command.value = sample ? `${view.command} --key ${sample.key}${view.tokens_of}` : view.list_command;
  }};
}

async function copy(text, field) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    field.focus();
    field.select();
    complain("The browser does not let this page copy; the command is selected, press Ctrl C.");
  }
}
