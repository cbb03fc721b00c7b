/**
 * Shows a video frame by frame. Two ways with one face: the browser's own player, and still pictures from
 * the server. Both tell `onFrame({ time, frame, picture, width, height, settled })` what is on the screen:
 * the time since the first frame, and about how long one lasts; never a time that was merely asked for.
 */
import { get } from "./api.js";
import { lastAt, SAME_TIME_S } from "./times.js";

const USUAL_FRAME_S = 1 / 30;
const NO_FRAME_MS = 3000;
const SAME_FRAME_MS = 1500;
const SEEKS = 3;
/** Where to look for the next frame, in lengths of the one before. */
const REACHES = [0.6, 1.1, 1.6, 2.6, 5, 10, 40];
const MILLISECOND = 0.001;
/** Times in files are whole microseconds or milliseconds; a seek lands just behind them. */
const BEHIND = 0.0002;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The browser's own player. `onProblem` is called if it cannot play the video. */
export class NativePlayback {
  constructor(video, url, { onFrame, onState, onProblem }) {
    Object.assign(this, { video, onFrame, onState, onProblem });
    this.first = null;
    this.shown = 0;
    this.gap = USUAL_FRAME_S;
    this.asked = null;
    this.busy = null;
    this.quiet = false;
    this.closed = false;
    this.states = ["play", "pause", "ended", "durationchange", "ratechange"];
    this.tell = () => onState();
    this.fail = () => {
      const reason = video.error?.message ?? "";
      this.close();
      onProblem(reason);
    };
    for (const name of this.states) video.addEventListener(name, this.tell);
    video.addEventListener("error", this.fail);
    this.look();
    video.preload = "auto";
    video.src = url;
    this.timer = setTimeout(() => this.lookAgain(), NO_FRAME_MS);
  }

  /** No frame yet: wait longer for a video that the browser has begun to read, on a busy machine. */
  lookAgain(waits = 4) {
    if (this.first !== null || document.hidden) return;
    if (waits && this.video.videoWidth) this.timer = setTimeout(() => this.lookAgain(waits - 1), NO_FRAME_MS);
    else this.fail();
  }

  get time() {
    return this.shown - (this.first ?? 0);
  }

  get duration() {
    return Number.isFinite(this.video.duration) ? Math.max(0, this.video.duration - (this.first ?? 0)) : 0;
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  look() {
    this.handle = this.video.requestVideoFrameCallback((_, meta) => {
      if (this.closed) return;
      this.look();
      this.take(meta);
    });
  }

  take({ mediaTime, width, height }) {
    if (this.first === null) {
      this.first = mediaTime;
      clearTimeout(this.timer);
      this.tell();
    }
    const step = Math.abs(mediaTime - this.shown);
    if (step > MILLISECOND && step < 0.5 && this.playing) this.gap = step / Math.max(1, this.video.playbackRate);
    this.shown = mediaTime;
    // A frame behind the time that was asked for is still that of an earlier seek.
    if (this.asked && mediaTime <= this.asked.time + SAME_TIME_S) this.asked.resolve();
    this.onFrame({ time: this.time, frame: this.gap, picture: null, width, height, settled: !this.quiet });
  }

  /** Seek, and wait for the frame that is shown then; its time in the file. */
  async jump(time) {
    const { video } = this;
    const wanted = Math.min(Math.max(this.first, time), Number.isFinite(video.duration) ? video.duration : time);
    // Chromium shows a frame anew that it shows already; others may not.
    const usual = this.shown <= wanted + SAME_TIME_S ? SAME_FRAME_MS : NO_FRAME_MS;
    // A busy browser may seek and tell of no frame: then it is asked again.
    for (let attempt = 0; attempt < SEEKS && !this.closed; attempt++) {
      const frame = new Promise((resolve) => (this.asked = { time: wanted, resolve: () => resolve(true) }));
      const sought = new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
      video.currentTime = wanted;
      await Promise.race([sought, pause(NO_FRAME_MS)]);
      if (await Promise.race([frame, pause(usual)])) break;
    }
    this.asked = null;
    return this.shown;
  }

  /** Do one thing after the other: of several seeks that wait, the last. */
  async alone(work) {
    this.next = work;
    if (this.busy) return this.busy;
    this.busy = (async () => {
      while (this.next && !this.closed) {
        const current = this.next;
        this.next = null;
        await current();
      }
    })().finally(() => (this.busy = null));
    return this.busy;
  }

  seek(time) {
    return this.alone(async () => {
      await this.jump(this.first + time + BEHIND);
      this.settle();
    });
  }

  step(direction) {
    this.pause();
    return this.alone(async () => {
      this.quiet = true;
      try {
        await (direction > 0 ? this.forward() : this.jump(this.shown - MILLISECOND));
      } finally {
        this.quiet = false;
      }
      this.settle();
    });
  }

  /** Show the next frame: look a little further until another one comes, then back for the first of them. */
  async forward() {
    const from = this.shown;
    let found = from;
    for (const reach of REACHES) {
      found = await this.jump(from + this.gap * reach + BEHIND);
      if (found > from + SAME_TIME_S) break;
    }
    if (found <= from + SAME_TIME_S) return;
    for (;;) {
      const earlier = await this.jump(found - MILLISECOND);
      if (earlier <= from + SAME_TIME_S || earlier >= found - SAME_TIME_S) break;
      found = earlier;
    }
    this.gap = found - from;
    await this.jump(found + BEHIND);
  }

  settle() {
    const { videoWidth: width, videoHeight: height } = this.video;
    this.onFrame({ time: this.time, frame: this.gap, picture: null, width, height, settled: true });
  }

  async play() {
    await this.busy;
    return this.video.play().catch(() => {});
  }

  pause() {
    this.video.pause();
  }

  setRate(rate) {
    this.video.playbackRate = rate;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.video.cancelVideoFrameCallback(this.handle);
    for (const name of this.states) this.video.removeEventListener(name, this.tell);
    this.video.removeEventListener("error", this.fail);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}

const CHUNK_S = 2;
const KEPT_CHUNKS = 3;

/** Pictures and their times from an answer of the server. */
export function readPictures(buffer) {
  const view = new DataView(buffer);
  const found = [];
  for (let at = 0; at + 12 <= view.byteLength; ) {
    const length = view.getUint32(at + 8);
    found.push({ time: Number(view.getBigUint64(at)) / 1e6, bytes: new Uint8Array(buffer, at + 12, length) });
    at += 12 + length;
  }
  return found;
}

/** Still pictures from the server, ten a second as the models see them. */
export class StillPlayback {
  constructor(url, { onFrame, onState, onProblem }, width = 960) {
    Object.assign(this, { url, onFrame, onState, onProblem, width });
    this.chunks = new Map();
    this.time = 0;
    this.duration = 0;
    this.playing = false;
    this.rate = 1;
    this.end = Infinity;
    this.closed = false;
    this.turn = 0;
    this.controller = new AbortController();
    this.begin();
  }

  async begin() {
    try {
      const facts = await get(`${this.url}/video/info`, { signal: this.controller.signal });
      this.duration = (facts.durationUs ?? 0) / 1e6;
      this.onState();
      await this.seek(this.wanted ?? 0);
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    if (this.closed || error.name === "AbortError") return;
    this.pause();
    this.onProblem(error.message);
  }

  /** The pictures of two seconds. */
  chunk(index) {
    if (index < 0 || index * CHUNK_S > this.end) return Promise.resolve([]);
    if (!this.chunks.has(index)) this.chunks.set(index, this.load(index).catch((error) => this.chunks.delete(index) && Promise.reject(error)));
    return this.chunks.get(index);
  }

  async load(index) {
    const query = { from: index * CHUNK_S * 1e6, to: (index + 1) * CHUNK_S * 1e6, width: this.width };
    const response = await get(`${this.url}/frames`, { query, signal: this.controller.signal, raw: true });
    const found = readPictures(await response.arrayBuffer());
    const pictures = await Promise.all(found.map(async ({ time, bytes }) => ({ time, picture: await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })) })));
    if (!pictures.length) this.end = Math.min(this.end, index * CHUNK_S);
    return pictures;
  }

  /** Have the pictures around, and no more than these. */
  around(index) {
    for (const near of [index + 1, index - 1]) this.chunk(near).catch(() => {});
    for (const [other, pictures] of this.chunks) {
      if (Math.abs(other - index) <= KEPT_CHUNKS) continue;
      this.chunks.delete(other);
      pictures.then((found) => found.forEach(({ picture }) => picture.close()), () => {});
    }
  }

  /** The picture shown at a time, or the first there is. */
  async at(time) {
    for (let index = Math.floor((time + SAME_TIME_S) / CHUNK_S); index >= 0; index--) {
      const pictures = await this.chunk(index);
      const place = lastAt(pictures.length, (one) => pictures[one].time, time + SAME_TIME_S);
      if (place >= 0) return pictures[place];
    }
    return (await this.chunk(0))[0];
  }

  show(one) {
    if (!one || this.closed) return;
    this.time = one.time;
    this.around(Math.floor(one.time / CHUNK_S));
    this.onFrame({ time: one.time, frame: 0.1, picture: one.picture, width: one.picture.width, height: one.picture.height, settled: true });
  }

  async seek(time) {
    this.wanted = time;
    const turn = ++this.turn;
    try {
      const found = await this.at(Math.max(0, time));
      if (turn === this.turn) this.show(found);
    } catch (error) {
      this.fail(error);
    }
  }

  async step(direction) {
    this.pause();
    const turn = ++this.turn;
    try {
      const found = await this.beside(direction);
      if (turn === this.turn) this.show(found);
    } catch (error) {
      this.fail(error);
    }
  }

  async beside(direction) {
    const now = this.time;
    const index = Math.floor(now / CHUNK_S);
    // A picture may stand for a point of the next or the last two seconds.
    const near = (await Promise.all([index - 1, index, index + 1].map((one) => this.chunk(one)))).flat();
    const others = near.filter(({ time }) => (direction > 0 ? time > now + SAME_TIME_S : time < now - SAME_TIME_S));
    return direction > 0 ? others[0] : others.at(-1);
  }

  async play() {
    if (this.playing) return;
    if (this.duration && this.time >= this.duration - 0.15) await this.seek(0);
    this.playing = true;
    this.onState();
    let [time, last] = [this.time, performance.now()];
    while (this.playing && !this.closed) {
      const now = await new Promise((resolve) => requestAnimationFrame(resolve));
      time += (Math.min(250, Math.max(0, now - last)) / 1000) * this.rate;
      last = now;
      const turn = this.turn;
      const found = await this.at(time).catch((error) => this.fail(error));
      if (turn !== this.turn) time = this.wanted ?? this.time;
      else if (found && found.time !== this.time) this.show(found);
      if (!found || time > Math.min(this.end, (this.duration || Infinity) + 0.1)) this.pause();
    }
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.onState();
  }

  setRate(rate) {
    this.rate = rate;
    this.onState();
  }

  close() {
    this.closed = true;
    this.controller.abort();
    for (const pictures of this.chunks.values()) pictures.then((found) => found.forEach(({ picture }) => picture.close()), () => {});
  }
}
