// Live: a camera or a video through the model. The server streams and keeps; this page shows what it tells, and asks.

import {post, upload} from "../api.js";
import {data, el} from "../dom.js";
import {complain} from "../notice.js";
import {count} from "../text.js";
import {Camera} from "./camera.js";
import {Curves} from "./curves.js";
import {Transcript, checklist, figures} from "./panels.js";

const AGAIN_MS = 1500;
const about = data("about");
const steps_text = steps => steps.map(step => `${step.id}: ${step.name}`).join("\n");
let view = null, socket = null, loading = null, stream = -1, wasTold = "", listed = "", complaint = 0, isEditing = true, isAsked = false, speaksFrom = Infinity, heard = 0;

// --- the page ------------------------------------------------------------------------------------------------------

const status = el("span", {class: "tag", role: "status", id: "status"}), role = el("span", {class: "tag", id: "role"});
const take = el("button", {hidden: true, onclick: () => ask({do: "take"})}, "Take over");
const video = el("video", {muted: true, playsinline: true, hidden: true}), image = el("img", {alt: "the frame that the model saw last", hidden: true});
video.muted = true;
const nothing = el("p", {class: "player-message"}, "Start the camera, or drop a video or an Arrow file here.");
const subtitle = el("p", {class: "subtitle", "aria-live": "polite", hidden: true});
const stage = el("div", {class: "stage"}, nothing, video, image, subtitle);
const start = el("button", {class: "primary", id: "start", onclick: startCamera}, "Start the camera");
const open = el("button", {id: "open", onclick: () => picker.click()}, "Open a video…");
const stop = el("button", {class: "danger", id: "stop", hidden: true, onclick: () => ask({do: "stop"})}, "Stop");
const picker = el("input", {type: "file", accept: about.types.join(","), hidden: true, id: "picker", onchange: () => { dropped(picker.files[0]); picker.value = ""; }});
const check = (id, name, title, more = {}) => [el("input", {type: "checkbox", id, ...more}), el("label", {for: id, title}, name)];
const [record, recordLabel] = check("record", "Record", `Frames, what the model did, and a draft clip, under ${about.out}/`);
const [pace, paceLabel] = check("pace", "Video at its pace", "Otherwise as fast as it goes, every frame", {checked: true});
const [aloud, aloudLabel] = check("aloud", "Speak aloud", "By this browser's voice, in this tab", {onchange: () => { speaksFrom = aloud.checked ? heard : Infinity; if (!aloud.checked) speechSynthesis.cancel(); }});
if (!("speechSynthesis" in window)) aloud.disabled = true;
const progress = el("p", {class: "faint", role: "status", hidden: true}), ended = el("p", {id: "ended", role: "status", hidden: true});
const options = el("div", {class: "row options"}, ...[[record, recordLabel], [pace, paceLabel], [aloud, aloudLabel]].map(pair => el("span", {class: "option"}, ...pair)));
const curvesRoot = el("section", {class: "panel side curves"});
const stepsField = el("textarea", {id: "steps", rows: 8, spellcheck: "false", placeholder: "S1: Attach the wheel\nS2: Paint it", "aria-label": "Steps, one a line"});
stepsField.value = steps_text(about.steps);
const stepsPicker = el("input", {type: "file", accept: ".txt,.json,.yaml,.yml", hidden: true, onchange: () => { droppedSteps(stepsPicker.files[0]); stepsPicker.value = ""; }});
const edit = el("button", {class: "plain", id: "edit", onclick: () => { isEditing = true; draw(); }}, "Edit");
const load = el("button", {class: "plain", onclick: () => stepsPicker.click()}, "Load a file…");
const editor = el("div", {class: "stack"}, stepsField, el("p", {class: "faint"}, "One a line: an id, a colon, a name. Without any the model only speaks."));
const list = el("div", {id: "checklist"});
const transcriptRoot = el("div", {class: "transcript-area"});
const line = el("input", {id: "line", type: "text", maxlength: about.most_line, autocomplete: "off", placeholder: "Say something to the assistant", "aria-label": "What you say"});
const sayButton = el("button", {type: "submit"}, "Say");
const form = el("form", {class: "row say", onsubmit: event => {
  event.preventDefault();
  if (line.value.trim()) ask({do: "say", text: line.value});
  line.value = "";
}}, line, sayButton);
const foot = el("dl", {class: "panel figures", id: "foot"});
document.body.append(el("main", {class: "live"},
  el("header", {class: "live-head"}, el("div", {class: "spread names"}, el("h1", {}, "Live"),
    el("p", {class: "faint"}, `${about.checkpoint} · ${count(about.fps, "frame")} a second${about.tracks ? "" : " · it tracks no state: it only speaks"}`)),
  el("div", {class: "row"}, role, take, status)),
  el("div", {class: "left"}, el("section", {class: "panel picture"}, stage, el("div", {class: "row controls"}, start, open, stop, picker, options), progress, ended), curvesRoot),
  el("div", {class: "right"}, el("section", {class: "panel side"}, el("div", {class: "row spread-row"}, el("h2", {}, "Steps"), el("span", {class: "spread"}), edit, load, stepsPicker), editor, list),
    el("section", {class: "panel side talk"}, el("h2", {}, "Transcript"), transcriptRoot, form)),
  foot), el("div", {class: "drop", "aria-hidden": "true"}, "Drop a video, an Arrow file, or a list of steps"));
const curves = new Curves(curvesRoot, about.fps, (head, value) => ask({do: "threshold", head, value}));
const transcript = new Transcript(transcriptRoot);
const camera = new Camera(video, {fps: about.fps, send: blob => socket?.readyState === 1 && socket.send(blob),
  waiting: () => socket?.bufferedAmount ?? 0, lost: text => { trouble(text); ask({do: "stop"}); }});

// --- the server ----------------------------------------------------------------------------------------------------

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`);
  socket.binaryType = "blob";
  socket.onmessage = event => typeof event.data === "string" ? seen(JSON.parse(event.data)) : showPicture(event.data);
  socket.onclose = () => {
    if (view !== null) complain("The connection to prospect is lost; is it still running in its terminal? This page tries again.");
    view = null;
    draw();
    setTimeout(connect, AGAIN_MS);
  };
}

function ask(what) {
  if (socket?.readyState === 1) socket.send(JSON.stringify(what));
}

// What goes wrong here is told here, and in the terminal.
function trouble(error) {
  const text = error instanceof Error ? error.message : String(error);
  complain(text);
  ask({do: "trouble", text});
}

function seen(next) {
  for (const text of next.alone ?? []) {
    complain(text);
    isAsked = false;
  }
  if (next.phase === undefined) return;
  if (next.stream !== stream) {
    stream = next.stream;
    heard = 0;
    speaksFrom = aloud.checked ? 0 : Infinity;
    curves.clear();
    transcript.clear();
    subtitle.hidden = true;
    isEditing = next.stream === 0;
  }
  const isFirst = view === null;
  view = next;
  if (next.told !== wasTold && next.is_wrong && !isFirst) complain(next.told);
  wasTold = ended.textContent = next.told;
  ended.className = `ended ${next.is_wrong ? "wrong" : "faint"}`;
  ended.hidden = !next.told;
  if (next.complaint[0] > complaint) complain(next.complaint[1]);
  complaint = next.complaint[0];
  curves.setThresholds(next.thresholds);
  if (next.points.length) curves.add(next.points);
  transcript.add(next.events, next.steps);
  for (const event of next.events) hear(event);
  if (camera.isOpen) {
    if (next.phase === "running" && next.is_camera && next.drives === "you") camera.run();
    else if (next.phase === "ready" && loading === null && !isAsked) camera.close();
  }
  if (next.phase === "running") isAsked = false;
  draw();
}

function hear(event) {
  if (event.role === "assistant") {
    subtitle.textContent = event.text;
    subtitle.hidden = false;
    if (event.id > speaksFrom) speechSynthesis.speak(new SpeechSynthesisUtterance(event.text));
  }
  heard = event.id;
}

function showPicture(blob) {
  if (camera.isOpen) return;
  const url = URL.createObjectURL(blob), old = image.src;
  image.onload = image.onerror = () => { if (old.startsWith("blob:")) URL.revokeObjectURL(old); };
  image.src = url;
  image.style.setProperty("--aspect", String(view?.aspect ?? 1));
  image.classList.toggle("stretched", Boolean(view?.aspect));
  draw();
}

// --- drawing -------------------------------------------------------------------------------------------------------

function draw() {
  const phase = view?.phase ?? "gone", drives = view?.drives === "you", isReady = phase === "ready";
  const told = {gone: "Not connected", ready: "Ready", running: view?.recording ? "● Recording" : "Running", ending: "Ending…"};
  status.textContent = told[phase];
  status.className = `tag ${phase === "running" ? view.recording ? "wrong" : "good" : ""}`;
  role.textContent = {you: "You drive", another: "Another tab drives; this one watches", nobody: "Nobody drives"}[view?.drives] ?? "";
  role.hidden = !view || (drives && !view.watching);
  if (drives && view.watching) role.textContent = `You drive; ${count(view.watching, "tab")} ${view.watching === 1 ? "watches" : "watch"}`;
  take.hidden = view?.drives !== "nobody";
  const mayGoOn = phase === "running" && drives && view.is_camera && !camera.isOpen;
  start.hidden = !(isReady || mayGoOn);
  start.textContent = mayGoOn ? "Go on with this camera" : "Start the camera";
  open.hidden = !isReady;
  stop.hidden = phase !== "running" && phase !== "ending";
  start.disabled = open.disabled = !drives || loading !== null;
  stop.disabled = !drives || phase === "ending";
  for (const option of [record, pace]) option.disabled = !drives || !isReady;
  line.disabled = sayButton.disabled = !drives || phase !== "running";
  curves.setEnabled(drives);
  const shows = camera.isOpen ? video : image.src ? image : null;
  video.hidden = shows !== video;
  image.hidden = shows !== image;
  nothing.hidden = shows !== null;
  nothing.textContent = phase === "running" ? "The next picture comes soon." : "Start the camera, or drop a video or an Arrow file here.";
  if (shows === null) subtitle.hidden = true;
  const isEditor = isReady && isEditing && drives;
  editor.hidden = load.hidden = !isEditor;
  list.hidden = isEditor;
  edit.hidden = !isReady || isEditing || !drives;
  if (!isEditor) {
    const steps = view?.stream ? view.steps : about.steps, may = drives && phase === "running" && about.tracks;
    const now = JSON.stringify([steps, view?.state, view?.waiting, may]), focused = document.activeElement?.dataset?.step;
    if (now !== listed) {  // else a button would go from under a finger
      listed = now;
      list.replaceChildren(...checklist(steps, view?.state ?? {}, view?.waiting ?? {}, may ? (step, state) => ask({do: "correct", step, state}) : null));
      if (focused) for (const button of list.querySelectorAll("button")) if (button.dataset.step === focused) button.focus();
    }
  }
  foot.replaceChildren(...figures(view?.foot ?? {}, view ?? {}, camera.left));
}

// --- sources -------------------------------------------------------------------------------------------------------

async function startCamera() {
  const goesOn = view?.phase === "running";
  loading = "camera";
  draw();
  try {
    await camera.open();
    loading = null;
    if (!goesOn) begin("camera");
    else if (view?.phase === "running") camera.run();
    else camera.close();  // the stream ended meanwhile: stopped is not begun again
  } catch (error) {
    camera.close();
    loading = null;
    trouble(error);
  }
  draw();
}

function begin(source) {
  isAsked = true;  // until it runs, the camera stays open
  ask({do: "start", source, steps: stepsField.value, record: record.checked, pace: pace.checked});
}

async function dropped(file) {
  if (!file || !view) return;
  if (/\.(txt|json|ya?ml)$/i.test(file.name)) return droppedSteps(file);
  if (view.drives !== "you" || view.phase !== "ready") return complain(view.drives === "you" ? "A stream goes on; stop it, then drop the video again." : "Another tab drives; this one can only watch.");
  if (file.size > about.most_bytes) return complain(`${file.name}: more than ${about.most_bytes / 1e9} GB. Cut it, or stream it by prospect stream.`);
  loading = file.name;
  progress.hidden = false;
  draw();
  try {
    const sent = upload(`/api/video?name=${encodeURIComponent(file.name)}&key=${encodeURIComponent(view.key)}`, file,
      share => { progress.textContent = `${file.name}: ${Math.round(100 * share)}% is there`; });
    await sent.done;
    begin("video");
  } catch (error) {
    trouble(error);
  }
  loading = null;
  progress.hidden = true;
  draw();
}

async function droppedSteps(file) {
  if (!file) return;
  if (view?.drives !== "you" || view.phase !== "ready") return complain("Steps are changed before a stream, by the tab that drives.");
  try {
    const found = await post("/api/steps", {name: file.name, text: await file.text()});
    stepsField.value = steps_text(found.steps);
    isEditing = true;
    draw();
  } catch (error) {
    trouble(error);
  }
}

for (const name of ["dragenter", "dragover"]) addEventListener(name, event => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", event => { if (event.relatedTarget === null) document.body.classList.remove("dragging"); });
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  dropped(event.dataTransfer.files[0]);
});
draw();
connect();
