// A frame by its index, at its true aspect, and a player over a range of frames.
//
//   const player = new Player(root, {first: 0, last: 99, fps: 2, source: (index, height) => `/frames/x/${index}.jpg?h=${height}`});
//   player.addEventListener("frame", event => event.detail.frame); player.frame = 10; player.step(-1); player.toggle();
//
// `source` may give a data: URL, so that the same player works in a file without a server. Neighbours are fetched
// before they are asked for; a frame that comes late, after another was asked for, is not shown.

import {el} from "./dom.js";

const KEEP = 96, AHEAD = 6;

export class Player extends EventTarget {
  constructor(root, {first, last, fps, source, height = 480, alt = index => `frame ${index}`}) {
    super();
    Object.assign(this, {first, last, fps, source, height, alt});
    this.root = root;
    this.root.classList.add("player");
    this.images = new Map();
    this.shown = null;
    this.timer = null;
    this.at = first;
    this.message = el("p", {class: "player-message", hidden: true});
    this.root.replaceChildren(this.message);
    this.show();
  }

  get frame() { return this.at; }

  set frame(index) {
    const wanted = Math.min(Math.max(Math.round(index), this.first), this.last);
    if (wanted === this.at) return;
    this.at = wanted;
    this.show();
    this.dispatchEvent(new CustomEvent("frame", {detail: {frame: wanted}}));
  }

  get isPlaying() { return this.timer !== null; }

  step(by) {
    this.pause();
    this.frame = this.at + by;
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  play() {
    if (this.isPlaying || this.last <= this.first) return;
    if (this.at >= this.last) this.frame = this.first;
    const start = performance.now(), from = this.at;
    this.timer = setInterval(() => {
      this.frame = from + Math.floor((performance.now() - start) / 1000 * this.fps);
      if (this.at >= this.last) this.pause();
    }, 1000 / Math.max(this.fps, 4) / 2);
    this.dispatchEvent(new CustomEvent("play"));
  }

  pause() {
    if (!this.isPlaying) return;
    clearInterval(this.timer);
    this.timer = null;
    this.dispatchEvent(new CustomEvent("pause"));
  }

  // Show another clip, from its first frame on.
  load({first, last, fps, source, alt = this.alt}) {
    this.pause();
    Object.assign(this, {first, last, fps, source, alt, at: first});
    this.images.clear();
    this.show();
  }

  async show() {
    const index = this.at, source = this.source, image = this.fetched(index);
    try {
      await image.decode();
    } catch {
      if (index === this.at && source === this.source) this.tell(`Frame ${index} cannot be shown.`);
      return;
    }
    if (index !== this.at || source !== this.source) return;
    image.alt = this.alt(index);
    this.message.hidden = true;
    if (this.shown !== image) {
      if (this.shown) this.shown.remove();
      this.root.prepend(image);
      this.shown = image;
    }
    for (let ahead = 1; ahead <= AHEAD; ahead++) {
      if (index + ahead <= this.last) this.fetched(index + ahead);
      if (ahead <= 2 && index - ahead >= this.first) this.fetched(index - ahead);
    }
  }

  tell(text) {
    if (this.shown) this.shown.remove();
    this.shown = null;
    this.message.textContent = text;
    this.message.hidden = false;
  }

  fetched(index) {
    let image = this.images.get(index);
    if (image === undefined) {
      image = new Image();
      image.draggable = false;
      image.src = this.source(index, this.height);
    }
    this.images.delete(index);
    this.images.set(index, image);  // the last in line is the last to go
    if (this.images.size > KEEP) this.images.delete(this.images.keys().next().value);
    return image;
  }
}
