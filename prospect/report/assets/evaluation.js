"use strict";
const METRICS = JSON.parse(document.getElementById("metrics").textContent);
const COLUMNS = ["dst_update_f1", "should_update_dst_f1", "joint_state_accuracy", "when_to_speak_f1", "F1", "missed",
  "repeated", "spurious", "wrong_step", "speech_missed", "speech_repeated", "speech_spurious"];
const LOW_IS_BAD = new Set(COLUMNS.slice(0, 5));
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const escape = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const clock = s => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const number = v => v === null || v === undefined ? "–" : Number.isInteger(v) ? String(v) : v.toFixed(3);
let sortBy = "dst_update_f1", worstFirst = true, chosen = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function showClips() {
  const body = document.querySelector("#clips tbody"), filter = document.getElementById("filter").value.toLowerCase();
  const badness = clip => {
    const value = clip.metrics[sortBy];
    if (sortBy === "id") return 0;
    return value === null || value === undefined ? Infinity : LOW_IS_BAD.has(sortBy) ? -value : value;
  };
  const rows = METRICS.clips.map((clip, place) => ({clip, place})).filter(r => r.clip.id.toLowerCase().includes(filter));
  rows.sort((a, b) => (badness(b.clip) - badness(a.clip) || 0) * (worstFirst ? 1 : -1) || (a.clip.id < b.clip.id ? -1 : 1));
  body.replaceChildren(...rows.map(({clip, place}) => {
    const row = element("tr", undefined, place === chosen ? "chosen" : "");
    row.append(element("td", clip.id), ...COLUMNS.map(name => element("td", number(clip.metrics[name]))));
    row.onclick = () => { location.hash = "clip=" + encodeURIComponent(clip.id); };
    return row;
  }));
  return rows.length ? rows[0].place : null;
}

function makeHead() {
  const row = document.querySelector("#clips thead tr");
  for (const name of ["id", ...COLUMNS]) {
    const cell = element("th", name.replaceAll("_", " "));
    cell.onclick = () => { worstFirst = sortBy === name ? !worstFirst : true; sortBy = name; showClips(); };
    row.append(cell);
  }
  document.getElementById("filter").oninput = showClips;
}

function lanes(clip, names) {
  const traces = [];
  for (const state of ["in_progress", "completed"]) {
    const trace = {type: "bar", orientation: "h", name: state.replace("_", " "), legendgroup: state, x: [], y: [], base: [],
      marker: {color: style(state === "completed" ? "--done" : "--progress")}, yaxis: "y3", hoverinfo: "text", text: [],
      textposition: "none", width: .72};
    clip.steps.forEach((step, place) => {
      for (const [side, spans] of [["reference", step.reference], ["prediction", step.prediction]])
        for (const [from, to, which] of spans) if (which === state) {
          trace.base.push(from / clip.fps); trace.x.push((to - from) / clip.fps);
          trace.y.push(names.indexOf(`${step.id} ${side}`));
          trace.text.push(`${escape(step.id + " " + step.name)}<br>${side}: ${state} from ${clock(from / clip.fps)}`);
        }
    });
    traces.push(trace);
  }
  return traces;
}

function events(clip, key, y, symbol, colour, name) {
  return {type: "scatter", mode: "markers", x: clip[key].map(e => e[0] / clip.fps), y: clip[key].map(() => y), yaxis: "y2",
    marker: {symbol, size: 11, color: colour, line: {width: 1, color: style("--back")}}, name, hoverinfo: "text",
    text: clip[key].map(e => `${clock(e[0] / clip.fps)} frame ${clip.start + e[0]}<br>${name}: ${escape(e[1])}`), showlegend: false, cliponaxis: false};
}

function draw(clip) {
  const names = clip.steps.flatMap(s => [`${s.id} reference`, `${s.id} prediction`]);
  const time = clip.p_update.map((_, i) => i / clip.fps), end = clip.p_update.length / clip.fps;
  const curve = (values, name, colour) => ({type: "scatter", mode: "lines", x: time, y: values, name, yaxis: "y",
    line: {color: colour, width: 1.6}, hovertemplate: `%{x:.1f} s: %{y:.3f}<extra>${name}</extra>`});
  const update = style("--update"), speak = style("--speak"), faint = style("--faint");
  const traces = [curve(clip.p_update, "update", update), curve(clip.p_speak, "speak", speak),
    events(clip, "reference_speech", 4, "diamond", faint, "reference utterance"),
    events(clip, "predicted_speech", 3, "diamond", speak, "predicted utterance"),
    events(clip, "reference_updates", 2, "square", faint, "reference update"),
    events(clip, "predicted_updates", 1, "square", update, "predicted update"),
    events(clip, "lines", 0, "triangle-up", style("--done"), "user or system"), ...lanes(clip, names)];
  const threshold = (value, colour) => ({type: "line", x0: 0, x1: end, y0: value, y1: value, yref: "y",
    line: {color: colour, dash: "dash", width: 1}});
  const shapes = [threshold(METRICS.settings.update_threshold, update), threshold(METRICS.settings.speak_threshold, speak)];
  for (const at of clip.restarts) shapes.push({type: "line", x0: at / clip.fps, x1: at / clip.fps, y0: 0, y1: 1,
    yref: "paper", line: {color: faint, dash: "dot", width: 1}});
  clip.steps.forEach((_, i) => { if (i % 2) shapes.push({type: "rect", x0: 0, x1: end, y0: 2 * i - .5, y1: 2 * i + 1.5,
    yref: "y3", line: {width: 0}, fillcolor: faint, opacity: .12, layer: "below"}); });
  const shown = clip.thumbs.length, images = clip.thumbs.map(([at, source]) => ({source, xref: "x", yref: "paper",
    x: at / clip.fps, y: 1, sizex: end / Math.max(shown, 1) * .97, sizey: .13, xanchor: "left", yanchor: "top"}));
  const lane = 21 * Math.max(names.length, 1), height = 470 + lane, low = lane / (height - 60);
  const axis = {gridcolor: style("--line"), zeroline: false, linecolor: style("--line"), fixedrange: true};
  Plotly.react("timeline", traces, {height, barmode: "overlay", images, shapes, margin: {l: 150, r: 20, t: 10, b: 50},
    paper_bgcolor: style("--back"), plot_bgcolor: style("--back"), font: {color: style("--ink"), size: 12},
    legend: {orientation: "h", y: 1 - .145, yanchor: "bottom", x: 1, xanchor: "right"}, hovermode: "closest",
    xaxis: {...axis, fixedrange: false, range: [0, end], title: {text: "seconds"}, anchor: "y3"},
    yaxis: {...axis, domain: [low + .37 * (1 - low), 1 - .2], range: [-.03, 1.03], title: {text: "probability"}},
    yaxis2: {...axis, domain: [low + .03, low + .33 * (1 - low)], range: [-.6, 4.6], tickvals: [0, 1, 2, 3, 4],
      ticktext: ["user, system", "updates, prediction", "updates, reference", "speech, prediction", "speech, reference"]},
    yaxis3: {...axis, domain: [0, low], range: [Math.max(names.length, 1) - .5, -.5],
      tickvals: names.map((_, i) => i), ticktext: names.map(escape)}}, {displayModeBar: false, responsive: true});
}

function tell(clip) {
  const rows = [];
  const put = (key, column, className) => clip[key].forEach(([at, text]) => rows.push([at, column, text, className]));
  put("lines", 0, "user"); put("reference_updates", 1, "reference"); put("reference_speech", 1, "reference");
  put("predicted_updates", 2, ""); put("predicted_speech", 2, "");
  rows.sort((a, b) => a[0] - b[0]);
  const body = document.querySelector("#said tbody");
  body.replaceChildren();
  let last = null, cells = null;
  for (const [at, column, text, className] of rows) {
    if (at !== last) {
      const row = element("tr");
      row.append(element("td", clock(at / clip.fps)));
      cells = [element("td"), element("td"), element("td")];
      row.append(...cells); body.append(row); last = at;
    }
    cells[column].append(element("div", text, className));
  }
}

function choose() {
  const wanted = decodeURIComponent((location.hash.match(/^#clip=(.*)$/) || [])[1] || "");
  const place = METRICS.clips.findIndex(clip => clip.id === wanted);
  chosen = place >= 0 ? place : chosen === null ? showClips() : chosen;
  if (chosen === null) return;
  showClips();
  const clip = JSON.parse(document.getElementById(`clip-${chosen}`).textContent);
  document.getElementById("title").textContent = METRICS.clips[chosen].id;
  draw(clip); tell(clip);
}

makeHead();
window.onhashchange = choose;
matchMedia("(prefers-color-scheme: dark)").onchange = choose;
choose();
