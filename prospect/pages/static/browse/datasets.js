// Datasets: what each split holds, in numbers and small plots.

import {el} from "../dom.js";
import {count} from "../text.js";
import {about} from "./source.js";

export const datasets = {name: "datasets", label: "Datasets", show};

async function show(root) {
  root.append(el("h1", {}, "Datasets"), el("ul", {}, ...about.datasets.splits.map(one => el("li", {}, `${one.of}: ${count(one.count, "clip")}`))));
}
