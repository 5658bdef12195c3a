"use strict";
const METRICS = JSON.parse(document.getElementById("metrics").textContent);
const FIRST = ["dst_update_f1", "should_update_dst_f1", "joint_state_accuracy", "when_to_speak_f1", "F1",
  "judge_overall", "missed", "late", "repeated", "spurious", "wrong_step", "speech_missed", "speech_repeated",
  "speech_spurious"];
const HIGH_IS_BAD = /early|late|miss|mismatched|repeated|spurious|wrong|redundant|delay|time_diff|tokens|restarts/;
const NAMES = [...new Set([...FIRST, ...METRICS.clips.flatMap(clip => Object.keys(clip.metrics))])]
  .filter(name => METRICS.clips.some(clip => name in clip.metrics));
const WHOLE = new Set(NAMES.filter(name => HIGH_IS_BAD.test(name) || name.startsWith("num_")).filter(name =>
  METRICS.clips.every(clip => Number.isInteger(clip.metrics[name] ?? 0))));
const THUMB_HEIGHT = 72, MARGIN = {l: 260, r: 20, t: 10, b: 66};
const find = selector => document.querySelector(selector);
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const escape = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const short = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;
const clock = s => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
let sortBy = NAMES[0] ?? "id", worstFirst = true, chosen = null, clip = null, range = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function number(name, value) {
  return value === null || value === undefined ? "–" : WHOLE.has(name) ? String(value) : value.toFixed(3);
}

// The table of clips; gives the place of the first one listed.
function showClips() {
  const columns = [...new Set([...FIRST.filter(name => NAMES.includes(name)), ...sortBy === "id" ? [] : [sortBy]])];
  const filter = find("#filter").value.toLowerCase();
  const hasNone = row => sortBy !== "id" && (row.metrics[sortBy] ?? null) === null;  // such clips come last
  const badness = row => sortBy === "id" ? 0 : HIGH_IS_BAD.test(sortBy) ? row.metrics[sortBy] : -row.metrics[sortBy];
  const compare = (a, b) => badness(a) === badness(b) ? a.id.localeCompare(b.id) : badness(b) - badness(a);
  const all = METRICS.clips.map((one, place) => ({...one, place}));
  const rows = all.filter(one => one.id.toLowerCase().includes(filter));
  rows.sort((a, b) => hasNone(a) - hasNone(b) || (worstFirst ? compare(a, b) : compare(b, a)));
  find("#sort").value = sortBy;
  find("#clips thead tr").replaceChildren(...["id", ...columns].map(name => {
    const cell = element("th", name.replaceAll("_", " ") + (name === sortBy ? worstFirst ? " ▾" : " ▴" : ""));
    cell.onclick = () => { worstFirst = sortBy === name ? !worstFirst : true; sortBy = name; showClips(); };
    return cell;
  }));
  find("#clips tbody").replaceChildren(...rows.map(one => {
    const row = element("tr", undefined, one.place === chosen ? "chosen" : "");
    row.append(element("td", one.id), ...columns.map(name => element("td", number(name, one.metrics[name]))));
    row.onclick = () => { 
      history.pushState(null, "", "#clip=" + encodeURIComponent(one.id));
      show(one.place);
    };
    return row;
  }));
  return rows.length ? rows[0].place : null;
}

function curve(values, name, colour) {
  return {type: "scatter", mode: values.length > 1 ? "lines" : "markers", name, yaxis: "y",
    x: values.map((_, i) => i / clip.fps), y: values, line: {color: colour, width: 1.6},
    customdata: values.map((_, i) => clip.start + i),
    hovertemplate: `%{x:.1f} s, frame %{customdata}: %{y:.3f}<extra>${name}</extra>`};
}

function markers(key, y, symbol, colour, name) {
  const wrong = style("--wrong"), back = style("--back");
  return {type: "scatter", mode: "markers", x: clip[key].map(e => e.at / clip.fps), y: clip[key].map(() => y),
    yaxis: "y2", name, showlegend: false, cliponaxis: false, hoverinfo: "text",
    marker: {symbol, size: 11, color: clip[key].map(e => e.errors.length ? back : colour), line: {width: 2,
      color: clip[key].map(e => e.errors.length ? wrong : back)}},
    text: clip[key].map(e => `${clock(e.at / clip.fps)}, frame ${clip.start + e.at}<br>${name}`
      + `${e.errors.length ? `: <b>${e.errors.join(", ").replaceAll("_", " ")}</b>` : ""}<br>${wrapped(e.text)}`)};
}

function wrapped(text) {
  return escape(text.replace(/(.{60}\S*)\s+/g, "$1\n")).replaceAll("\n", "<br>");
}

function lanes(names) {
  return ["in_progress", "completed"].map(state => {
    const trace = {type: "bar", orientation: "h", name: state.replace("_", " "), x: [], y: [], base: [], text: [],
      marker: {color: style(state === "completed" ? "--done" : "--progress")}, yaxis: "y3", hoverinfo: "text",
      textposition: "none", width: .72};
    clip.steps.forEach((step, place) => ["reference", "prediction"].forEach((side, below) => {
      for (const [from, to, which] of step[side]) if (which === state) {
        trace.base.push(from / clip.fps); trace.x.push((to - from) / clip.fps); trace.y.push(2 * place + below);
        trace.text.push(`${wrapped(`${step.id} ${step.name}`)}<br>${side}: ${trace.name} from `
          + `${clock(from / clip.fps)} to ${clock(to / clip.fps)}`);
      }
    }));
    return trace;
  });
}

// Thumbnails of the visible range in even slots: in each one with an event if any, else the one next to its middle.
function strip([from, to], width) {
  const time = t => (t.at + .5) / clip.fps, visible = clip.thumbs.filter(t => time(t) >= from && time(t) < to);
  const fit = Math.floor(width / (Math.max(...visible.map(t => t.width)) + 2));
  const count = Math.max(Math.min(fit, Math.round((to - from) * clip.fps)), 1), slot = (to - from) / count, images = [];
  for (let i = 0; i < count; i++) {
    const middle = from + (i + .5) * slot;
    const off = t => Math.abs(time(t) - middle) + (t.event ? 0 : slot);
    const inside = visible.filter(t => Math.floor((time(t) - from) / slot) === i);
    inside.sort((a, b) => off(a) - off(b));
    if (inside.length) images.push({at: inside[0].at, middle, source: inside[0].source});
  }
  return {slot, images};
}

// Tick labels: seconds, and below them the frame.
function ticks([from, to], width) {
  const steps = [.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600], most = Math.max(width / 90, 2);
  const step = steps.find(s => (to - from) / s <= most) ?? (to - from) / most;
  const tickvals = [];
  for (let i = Math.ceil(from / step); i * step <= to; i++) tickvals.push(i * step);
  return {tickvals, ticktext: tickvals.map(s => `${+s.toFixed(1)}<br>${clip.start + Math.round(s * clip.fps)}`)};
}

// Panels from the top: [axis, height in pixels, space below].
function stacked(panels) {
  const height = panels.reduce((sum, [, own, below]) => sum + own + below, 0), domains = {};
  let top = height;
  for (const [axis, own, below] of panels) {
    domains[axis] = [Math.max(top - own, 0) / height, top / height];
    top -= own + below;
  }
  return {height, domains};
}

function draw() {
  const names = clip.steps.flatMap(s => [`${s.id} ${short(s.name, 26)}, reference`, "prediction"]);
  const whole = [0, clip.p_update.length / clip.fps], end = whole[1], seen = range ?? whole;
  const update = style("--update"), speak = style("--speak"), faint = style("--faint"), wrong = style("--wrong");
  const width = find("#timeline").clientWidth - MARGIN.l - MARGIN.r, shown = strip(seen, width);
  const {height, domains} = stacked([["y4", clip.thumbs.length ? THUMB_HEIGHT : 1, 30], ["y", 150, 22], ["y2", 125, 16],
    ["y3", 20 * Math.max(names.length, 1), 0]]);
  const traces = [curve(clip.p_update, "p(update)", update), curve(clip.p_speak, "p(speak)", speak),
    markers("reference_speech", 4, "diamond", faint, "reference utterance"),
    markers("predicted_speech", 3, "diamond", speak, "predicted utterance"),
    markers("reference_updates", 2, "square", faint, "reference update"),
    markers("predicted_updates", 1, "square", update, "predicted update"),
    markers("lines", 0, "triangle-up", style("--user"), "user or system"), ...lanes(names),
    {type: "scatter", mode: "markers", yaxis: "y4", x: shown.images.map(i => i.middle), y: shown.images.map(() => .5),
      marker: {size: 40, opacity: 0}, showlegend: false, hoverinfo: "text",
      text: shown.images.map(i => `${clock(i.at / clip.fps)}, frame ${clip.start + i.at}`)}];
  if (clip.restarts.length) traces.push({type: "scatter", mode: "lines", x: [null], y: [null], name: "context restart",
    line: {color: faint, dash: "dot", width: 1.5}});
  const line = (from, to, y0, y1, yref, line, layer) =>
    ({type: "line", x0: from / clip.fps, x1: to / clip.fps, y0, y1, yref, line, layer});
  const threshold = (value, color) =>
    line(0, clip.p_update.length, value, value, "y", {color, dash: "dash", width: 1}, "below");
  const {update_threshold, speak_threshold} = METRICS.settings;
  const shapes = [threshold(update_threshold, update), threshold(speak_threshold, speak)];
  for (const at of clip.restarts)
    shapes.push(line(at, at, 0, domains.y[1], "paper", {color: faint, dash: "dot", width: 1.5}));
  for (const [key, row] of [["predicted_speech", 3], ["predicted_updates", 1]]) for (const e of clip[key])
    if (e.due !== null) shapes.push(line(e.due, e.at, row + 1, row, "y2", {color: wrong, width: 2}, "below"));
  clip.steps.forEach((_, i) => { if (i % 2) shapes.push({type: "rect", x0: 0, x1: end, y0: 2 * i - .5, y1: 2 * i + 1.5,
    yref: "y3", line: {width: 0}, fillcolor: faint, opacity: .14, layer: "below"}); });
  const images = shown.images.map(({middle, source}) => ({source, xref: "x", yref: "y4", x: middle, y: .5,
    sizex: shown.slot * .97, sizey: 1, xanchor: "center", yanchor: "middle"}));
  const axis = {gridcolor: style("--line"), zeroline: false, fixedrange: true};
  Plotly.react("timeline", traces, {height: height + MARGIN.t + MARGIN.b, margin: MARGIN, images, shapes,
    barmode: "overlay", paper_bgcolor: style("--back"), plot_bgcolor: style("--back"),
    font: {color: style("--ink"), size: 12}, hoverlabel: {align: "left"}, hovermode: "closest", dragmode: "zoom",
    legend: {orientation: "h", y: domains.y[1], yanchor: "bottom", x: 1, xanchor: "right", bgcolor: "rgba(0,0,0,0)"},
    xaxis: {...axis, fixedrange: false, range: seen, ...ticks(seen, width), anchor: "y3",
      title: {text: "seconds, frame", standoff: 8}},
    yaxis: {...axis, domain: domains.y, range: [-.03, 1.03], tickvals: [0, .5, 1], title: {text: "probability"}},
    yaxis2: {...axis, domain: domains.y2, range: [-.7, 4.6], ticks: "outside", ticklen: 8, tickcolor: "rgba(0,0,0,0)",
      tickvals: [0, 1, 2, 3, 4],
      ticktext: ["user, system", "updates, prediction", "updates, reference", "utterances, prediction",
        "utterances, reference"]},
    yaxis3: {...axis, domain: domains.y3, range: [Math.max(names.length, 1) - .5, -.5], showgrid: false,
      tickvals: names.map((_, i) => i), ticktext: names.map(escape)},
    yaxis4: {...axis, domain: domains.y4, range: [0, 1], visible: false}}, {displayModeBar: false, doubleClick: false});
}

// All that was said and updated, by time.
function tell() {
  const rows = new Map();
  const put = (key, column, className) => { for (const event of clip[key]) {
    if (!rows.has(event.at)) rows.set(event.at, [[], [], []]);
    const said = element("div", event.role ? `${event.role}: ${event.text}` : event.text, className);
    if (event.errors.length) said.append(element("span", event.errors.join(", ").replaceAll("_", " "), "wrong"));
    rows.get(event.at)[column].push(said);
  } };
  put("lines", 0, "user"); put("reference_updates", 1, "update"); put("reference_speech", 1);
  put("predicted_updates", 2, "update"); put("predicted_speech", 2);
  find("#said tbody").replaceChildren(...[...rows].sort((a, b) => a[0] - b[0]).map(([at, cells]) => {
    const row = element("tr");
    row.append(element("td", clock(at / clip.fps)), element("td", String(clip.start + at)), ...cells.map(said => {
      const cell = element("td");
      cell.append(...said);
      return cell;
    }));
    return row;
  }));
}

// What the judge said of the clip, a line a repeat and row.
function judged() {
  const {id, dataset} = METRICS.clips[chosen], axes = ["correctness", "promptness", "efficiency", "overall"], lines = [];
  for (const [name, row] of Object.entries(METRICS.judge?.rows ?? {})) {
    const one = row.clips.find(other => other.id === id && other.dataset === dataset);
    one?.analyses.forEach((said, repeat) => {
      const line = element("tr"), scores = axes.map(axis => String(one.scores[axis][repeat] ?? "–"));
      const cells = [name.replaceAll("_", " "), String(repeat + 1), ...scores, said ?? "no answer"];
      line.append(...cells.map((text, i) => element("td", text, i === cells.length - 1 ? "analysis" : "")));
      lines.push(line);
    });
  }
  const head = element("tr");
  head.append(...["judged", "repeat", ...axes, "analysis"].map(name => element("th", name)));
  find("#judged").replaceChildren(...lines.length ? [head, ...lines] : []);
}

// The clip of the address; ids may repeat between datasets, so a click shows its row's.
function choose() {
  const wanted = decodeURIComponent((location.hash.match(/^#clip=(.*)$/) || [])[1] || "");
  const place = METRICS.clips.findIndex(one => one.id === wanted);
  const next = place >= 0 ? place : chosen ?? showClips();
  if (next !== null) show(next);
}

function show(place) {
  chosen = place;
  showClips();
  clip = JSON.parse(document.getElementById(`clip-${chosen}`).textContent);
  range = null;
  find("#title").textContent = METRICS.clips[chosen].id;
  draw(); tell(); judged();
}

function start() {
  find("#sort").append(...["id", ...NAMES].map(name => element("option", name)));
  find("#sort").onchange = event => { sortBy = event.target.value; worstFirst = true; showClips(); };
  find("#filter").oninput = showClips;
  if (find("#dataset")) find("#dataset").onchange = event => {
    const shown = event.target.selectedIndex;
    document.querySelectorAll("section").forEach((section, i) => { section.hidden = i !== shown; });
  };
  window.onhashchange = choose;
  choose();
  if (clip === null) return;
  find("#timeline").on("plotly_relayout", change => {
    if (change["xaxis.range[0]"] === undefined) return;
    const end = clip.p_update.length / clip.fps;
    range = [Math.max(change["xaxis.range[0]"], 0), Math.min(change["xaxis.range[1]"], end)];
    draw();
  });
  find("#timeline").on("plotly_doubleclick", () => { range = null; draw(); });
  window.onresize = draw;
  matchMedia("(prefers-color-scheme: dark)").onchange = draw;
}

start();
