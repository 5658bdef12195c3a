// The browser's camera: shown as it is, and sent as JPEGs of its own shape, one a frame of the stream.

const MOST_HEIGHT = 480, QUALITY = .85, MOST_WAITING = 1 << 20;  // pixels; of a JPEG; bytes that the connection has not taken yet

const REASONS = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address, then start again; or drop a video.",
  NotFoundError: "There is no camera here. Plug one in, then start again; or drop a video.",
  OverconstrainedError: "There is no camera here that fits. Drop a video instead.",
  NotReadableError: "The camera is in use by another program. Close that, then start again; or drop a video.",
};
const NOT_SECURE = "A browser gives its camera only to a page of its own machine (127.0.0.1) or by https. Forward the port, "
  + "e.g. ssh -L 8321:127.0.0.1:8321 HOST, and open 127.0.0.1:8321; or drop a video.";

export class Camera {
  // `send(blob)` has a picture; `waiting()` tells how many bytes wait in the connection; `lost(text)`: it broke off.
  constructor(video, {fps, send, waiting, lost}) {
    Object.assign(this, {video, fps, send, waiting, lost, stream: null, timer: null, left: 0});
    this.canvas = document.createElement("canvas");
  }

  get isOpen() { return this.stream !== null; }

  // Asks for the camera; throws an Error with a sentence.
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(NOT_SECURE);
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({audio: false, video: {height: {ideal: MOST_HEIGHT}, facingMode: "environment"}});
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The camera cannot be used (${error.message}). Drop a video instead.`);
    }
    for (const track of this.stream.getVideoTracks()) track.addEventListener("ended", () => this.lost("The camera broke off; what was streamed is kept."));
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  // Send a picture now, and one a frame from here on.
  run() {
    if (this.timer !== null) return;
    const period = 1000 / this.fps;
    let due = performance.now();
    const tick = () => {
      this.picture();
      due = Math.max(due + period, performance.now() - period);  // what was missed while the tab slept is not made up for
      this.timer = setTimeout(tick, Math.max(due - performance.now(), 0));
    };
    tick();
  }

  picture() {
    const {videoWidth, videoHeight} = this.video;
    if (!videoWidth) return;
    if (this.waiting() > MOST_WAITING) {
      this.left++;
      return;
    }
    const height = Math.min(videoHeight, MOST_HEIGHT);
    this.canvas.height = height;
    this.canvas.width = Math.round(videoWidth * height / videoHeight);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    this.canvas.toBlob(blob => { if (blob && this.timer !== null) this.send(blob); }, "image/jpeg", QUALITY);
  }

  close() {
    clearTimeout(this.timer);
    this.timer = null;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }
}
