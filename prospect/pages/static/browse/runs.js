// Runs: the table of `prospect compare`, the curves of their evaluations during training, and where of two evaluations
// one fails and the other does not. A clip of that list leads to both on one timeline (runs_clip.js).

import {chart} from "../chart.js";
import {el} from "../dom.js";
import {better, metricNames} from "../scores.js";
import {count} from "../text.js";
import {table} from "./plots.js";
import {showPair} from "./runs_clip.js";
import {about, ask, link} from "./source.js";

export const runs = {name: "runs", label: "Runs", show};
const DASHES = [null, "7 4", "2 4", "10 4 2 4", "1 6", "14 4"], FIRST_CURVES = ["dst_gen_exact_match", "should_update_dst_f1", "when_to_speak_f1", "lm_loss", "loss"];

async function show(root, place, query) {
  if (place[0] === "clip") return showPair(root, place[1], query);
  const given = about.runs, parts = [el("h1", {}, "Runs")];
  if (given.splits.length) parts.push(await comparePanel(given, query));
  else if (given.runs.length) parts.push(el("p", {class: "panel side faint"}, "No run is finished: there is nothing to compare yet."));
  if (given.runs.length) parts.push(await curvesPanel(root, query));
  if (given.evaluations.length) parts.push(await pairPanel(given.evaluations, query));
  root.append(...parts);
}

// Choosing changes the address, so that it can be sent to others.
function select(label, name, values, chosen, query) {
  return el("label", {class: "field"}, label, el("select", {onchange: event => { location.hash = link("runs", [], {...query, [name]: event.target.value}); }},
    ...values.map(value => el("option", {value, selected: value === chosen}, value))));
}

async function comparePanel(given, query) {
  const split = given.splits.includes(query.split) ? query.split : given.splits[0], told = await ask("runs", ["compare", split]), metrics = Object.keys(told.columns);
  const rows = told.rows.map(({name, values}, place) => [place < told.num_runs ? el("b", {}, `${name}${values.unlike ? " *" : ""}`) : name, ...metrics.map(metric => number(values[metric]))]);
  return el("section", {class: "panel side stack", "aria-label": "Compared"}, el("div", {class: "row"}, el("h2", {class: "spread"}, "Compared, teacher-forced"),
    given.splits.length > 1 ? select("Split", "split", given.splits, split, query) : null), table(["", ...Object.values(told.columns)], rows),
  ...told.told.map(line => el("p", {class: "faint"}, line)), given.unfinished.length ? el("p", {class: "faint"}, `Not finished: ${given.unfinished.join(", ")}.`) : null);
}

async function curvesPanel(root, query) {
  const listed = await ask("runs", ["curves"]);
  if (!listed.length) return el("p", {class: "panel side faint"}, "No run has evaluated itself yet: there are no curves.");
  const splits = [...new Set(listed.flatMap(run => Object.keys(run.points)))], split = splits.includes(query.curves) ? query.curves : splits[0];
  const there = new Set(listed.flatMap(run => Object.keys(run.points[split] ?? {}))), names = [...new Set([...FIRST_CURVES, ...[...there].sort()])].filter(name => there.has(name));
  const metric = names.includes(query.metric) ? query.metric : names[0], isLog = query.scale === "log";
  const lines = listed.map((run, place) => ({name: run.name, look: `run-${place % DASHES.length}`, dash: DASHES[place % DASHES.length], dots: true,
    points: run.points[split]?.[metric] ?? [], told: (step, value) => `${run.name}, step ${step}: ${metric} ${number(value)}`})).filter(line => line.points.length);
  const values = lines.flatMap(line => line.points.map(([, value]) => value)).filter(value => !isLog || value > 0), steps = lines.flatMap(line => line.points.map(([step]) => step));
  const plot = el("div", {}), [low, high] = [Math.min(...values), Math.max(...values)], room = (high - low || Math.abs(high) || 1) * .06;
  const y = {label: metric, isLog, from: isLog ? low : low >= 0 && low < (high - low) / 2 ? 0 : low - room, to: isLog ? (high === low ? high * 10 : high) : high + room};
  root.addEventListener("shown", () => values.length && chart(plot, {label: `${metric} on ${split} by step`, height: 320, x: {from: 0, to: Math.max(...steps, 1), label: "step"}, y, lines}));
  const scale = ["linear", "log"].map(name => el("a", {class: "button", href: link("runs", [], {...query, scale: name}), "aria-current": (name === "log") === isLog ? "true" : null}, name));
  return el("section", {class: "panel side stack", "aria-label": "Curves"}, el("div", {class: "row"}, el("h2", {class: "spread"}, "Curves"), select("Split", "curves", splits, split, query),
    select("Metric", "metric", names, metric, query), el("span", {class: "row scale", role: "group", "aria-label": "Scale"}, ...scale)),
  values.length ? plot : el("p", {class: "faint"}, "Nothing above 0 to show on a log scale."),
  el("details", {}, el("summary", {}, "The numbers"), table(["Run", "Step", metric], lines.flatMap(line => line.points.map(([step, value]) => [line.name, step, number(value)])))));
}

async function pairPanel(evaluations, query) {
  const names = evaluations.map(one => one.name), a = names.includes(query.a) ? query.a : names[0], b = names.includes(query.b) ? query.b : names.find(name => name !== a) ?? a;
  const [ofA, ofB] = await Promise.all([a, b].map(name => ask("runs", ["scores", String(names.indexOf(name))])));
  const head = el("div", {class: "row"}, el("h2", {class: "spread"}, "Where A fails and B does not"), select("A", "a", names, a, {...query, b}), select("B", "b", names, b, {...query, a}),
    el("a", {class: "button", href: link("runs", [], {...query, a: b, b: a})}, "Swap"));
  const panel = (...parts) => el("section", {class: "panel side stack", "aria-label": "Pairs"}, head, ...parts), lacking = [[a, ofA], [b, ofB]].filter(([, listed]) => !listed.length).map(([name]) => name);
  if (lacking.length) return panel(el("p", {class: "faint"}, `${[...new Set(lacking)].join(", ")}: no metrics.json there, so its clips have no scores; run prospect evaluate.`));
  const others = new Map(ofB.map(one => [one.key, one])), both = ofA.filter(one => others.has(one.key)), metrics = metricNames(both);
  if (a === b || !both.length) return panel(el("p", {class: "faint"}, a === b ? "Another evaluation is needed to hold this one against." : `${a} and ${b} have no clip in common.`));
  const metric = metrics.includes(query.by) ? query.by : metrics[0], scored = both.map(one => ({one, other: others.get(one.key), by: better(metric, one, others.get(one.key))}));
  const found = scored.filter(({by}) => by > 0).sort((x, y) => y.by - x.by), worse = scored.filter(({by}) => by < 0).length;
  const digits = [...ofA, ...ofB].every(one => Number.isInteger(one.metrics[metric] ?? 0)) ? 0 : 3;  // of a count, none
  const rows = found.map(({one, other, by}) => [el("a", {href: link("runs", ["clip", one.key], {a, b})}, one.id),
    ...[one.metrics[metric], other.metrics[metric], by].map(value => number(value, digits))]);
  head.append(select("By", "by", metrics, metric, query));
  return panel(el("p", {}, `Of ${count(both.length, "clip")} B is better in ${found.length}, A in ${worse}, and in ${both.length - found.length - worse} there is no difference.`),
    rows.length ? el("div", {class: "tall"}, table(["Clip", `A: ${a}`, `B: ${b}`, "B better by"], rows)) : null);
}

function number(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}
