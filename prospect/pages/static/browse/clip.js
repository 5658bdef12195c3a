// A clip's page: frames, lanes, turns, tokens, and the command that shows its samples.

import {el} from "../dom.js";
import {ask} from "./source.js";

export async function showClip(root, key) {
  const view = await ask("clips", ["clip", key]);
  root.append(el("h1", {}, view.title));
}
