// Where the pages' JSON and pictures come from: a server, or the folder that was published, in which each answer is a
// block of the document under the name of its address.

import {get} from "../api.js";
import {data} from "../dom.js";

export const about = data("about", {});  // by section
export const published = data("published");  // null: served; else {pictures: {key: [frames]}}

// The JSON of an address below a section. A published one has no query.
export async function ask(section, place = [], query = {}) {
  if (!published) return get(`/api/${[section, ...place].map(encodeURIComponent).join("/")}${tail(query)}`);
  const value = data(JSON.stringify([section, ...place]));
  if (value === null) throw new Error("This is not among what was published here; the server has it.");
  return value;
}

// The address of a frame of a clip; published are only some, of which the nearest is shown.
export function picture(key, frame, height) {
  if (!published) return `/frames/${encodeURIComponent(key)}/${frame}.jpg?h=${height}`;
  const there = published.pictures[key] ?? [];
  const nearest = there.reduce((a, b) => Math.abs(b - frame) < Math.abs(a - frame) ? b : a, there[0]);
  return `frames/${encodeURIComponent(key)}/${nearest}.jpg`;
}

// The address of a page, to go there or to copy.
export function link(section, place = [], query = {}) {
  return `#${[section, ...place].map(encodeURIComponent).join("/")}${tail(query)}`;
}

// [section, place, query] of the address that is open.
export function here() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const [section = "", ...place] = path.split("/").filter(Boolean).map(decoded);
  return [section, place, Object.fromEntries(new URLSearchParams(query))];
}

function tail(query) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
