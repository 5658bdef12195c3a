"use strict";
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
const TICK_WIDTH = 64, MOST_ZOOM = 64;
const told = document.getElementById("told");

function clock(s) {
  const two = n => String(n).padStart(2, "0"), hours = Math.floor(s / 3600), minutes = Math.floor(s / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
}

// Ticks at round times, as many as there is room for.
function drawAxis(section) {
  const length = Number(section.dataset.length), axis = section.querySelector(".axis"), ticks = [];
  const room = Math.max(axis.clientWidth / TICK_WIDTH, 1);
  const step = STEPS_S.find(s => length / s <= room) ?? Math.ceil(length / room / 3600) * 3600;
  for (let at = 0; at < length && (1 - at / length) * axis.clientWidth > TICK_WIDTH - 14; at += step) {
    const tick = document.createElement("span");
    tick.textContent = clock(at);
    tick.style.left = `${100 * at / length}%`;
    ticks.push(tick);
  }
  axis.replaceChildren(...ticks);
}

// By a factor, around the middle of what is seen (or around an item); 0: the whole.
function zoom(section, factor, item) {
  const lanes = section.querySelector(".lanes"), track = section.querySelector(".track");
  const before = Number(track.style.getPropertyValue("--zoom") || 1);
  const after = factor ? Math.min(Math.max(before * factor, 1), MOST_ZOOM) : 1;
  const middle = item ? item.offsetLeft + item.offsetWidth / 2 : lanes.scrollLeft + lanes.clientWidth / 2;
  const share = middle / track.offsetWidth;
  track.style.setProperty("--zoom", after);
  lanes.scrollLeft = share * track.offsetWidth - lanes.clientWidth / 2;
  drawAxis(section);
}

function tell(item) {
  told.textContent = item.title;
  told.hidden = false;
}

// One item of a video is reached by Tab; the others from it, by arrows.
function focus(item) {
  item.closest("section").querySelectorAll('.item[tabindex="0"]').forEach(other => { other.tabIndex = -1; });
  item.tabIndex = 0;
  item.focus();
  item.scrollIntoView({block: "nearest", inline: "nearest"});
}

function next(item, key) {
  const rows = [...item.closest("section").querySelectorAll(".row")], row = item.closest(".row");
  if (key === "ArrowLeft") return item.previousElementSibling;
  if (key === "ArrowRight") return item.nextElementSibling;
  if (key === "Home") return row.firstElementChild;
  if (key === "End") return row.lastElementChild;
  const other = rows[rows.indexOf(row) + (key === "ArrowUp" ? -1 : 1)];
  const away = one => Math.abs(Number(one.dataset.at) - Number(item.dataset.at));
  return other ? [...other.children].reduce((a, b) => away(b) < away(a) ? b : a) : null;
}

document.querySelectorAll("section").forEach(section => {
  drawAxis(section);
  const first = section.querySelector(".item");
  if (first) first.tabIndex = 0;
  section.querySelectorAll("[data-zoom]").forEach(button => {
    button.onclick = () => zoom(section, Number(button.dataset.zoom));
  });
  const lanes = section.querySelector(".lanes");
  lanes.addEventListener("focusin", event => { if (event.target.matches(".item")) tell(event.target); });
  lanes.addEventListener("mouseover", event => { if (event.target.matches(".item")) tell(event.target); });
  lanes.addEventListener("click", event => { if (event.target.matches(".item")) focus(event.target); });
  lanes.addEventListener("keydown", event => {
    const item = event.target;
    if (!item.matches(".item") || event.ctrlKey || event.metaKey || event.altKey) return;
    const factor = {"+": 2, "=": 2, "-": .5, "0": 0}[event.key];
    if (factor !== undefined) zoom(section, factor, item);
    else if (/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) {
      const found = next(item, event.key);
      if (found) focus(found);
    } else return;
    event.preventDefault();
  });
});
document.addEventListener("keydown", event => { if (event.key === "Escape") told.hidden = true; });
window.addEventListener("resize", () => document.querySelectorAll("section").forEach(drawAxis));
