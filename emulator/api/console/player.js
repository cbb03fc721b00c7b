/** What a model found in a video, shown on it: picture with boxes, the list of predictions, the timeline. */
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./third_party/htm-preact.js";
import { get, useResource } from "./api.js";
import { compareLine, lineBeside, Question, Thresholds } from "./compare.js";
import { COMPARE, comparisonOf, countsText, otherText, readComparison } from "./differences.js";
import { byteSize, plural } from "./format.js";
import { drawFrame, drawTimeline, fit, styleOf } from "./overlay.js";
import { NativePlayback, StillPlayback } from "./playback.js";
import { jobPath, navigate, placePath, readAddress, withQuery } from "./router.js";
import { clockText, neighbour, predictedTimes, predictionsOf, SAME_TIME_S, seconds, threshold, timeText } from "./times.js";
import { lanesOf, pan, reveal, toTime, zoom } from "./timeline.js";
import { announce, Button, Dialog, Icon, LinkButton, Loading, Notice, Page, ProblemBox } from "./ui.js";

const PAGE_SIZE = 100;
/** Longer results would take the browser's memory. */
const LONGEST_RESULT = 100_000_000;
const SHOWN_PREDICTIONS = 500;
const CODECS = { fmp4: "MPEG-4 Part 2 (mp4v)", mp4v: "MPEG-4 Part 2 (mp4v)", hevc: "HEVC", hvc1: "HEVC", hev1: "HEVC", h264: "H.264", avc1: "H.264", mjpg: "Motion JPEG" };
const RATES = [0.25, 0.5, 1, 1.5, 2, 4];
const ADDRESS_PAUSE_MS = 300;
const CLOCK_PAUSE_MS = 80;
const KEYS = [
  ["Space", "play, pause"], ["← →", "one frame back, on"], ["Shift ← →", "one second"], [", .", "previous, next predicted time"], ["[ ]", "previous, next start of a prediction"],
  ["Home End", "first, last frame"], ["↑ ↓", "choose a prediction"], ["- +", "threshold"], ["L", "loop the chosen prediction"], ["S", "what the model saw"], ["F", "full screen"], ["N Shift N", "next, previous difference"], ["E", "expected boxes on, off"],
];

const resultsPath = (job) => `/_emulator/jobs/${encodeURIComponent(job)}/results`;

/** The row of a result, and the result itself if it is not too long. */
async function loadResult(job, number, signal) {
  const page = await get(resultsPath(job), { signal, query: { page: Math.ceil(number / PAGE_SIZE) } });
  const row = page.results.find((one) => one.number === number);
  if (!row?.file || row.bytes > LONGEST_RESULT) return { row, page, predictions: [] };
  try {
    return { row, page, predictions: predictionsOf(await get(`${resultsPath(job)}/${number}`, { signal })) };
  } catch (error) {
    if (error.name === "AbortError" || error.status) throw error;
    return { row, page, predictions: [], broken: `The result cannot be read: ${error.message}. Somebody may have edited ${row.file}.` };
  }
}

export default function Player({ project, location, job, number: text, query }) {
  const place = { project, location };
  const number = Number(text);
  const { data, error, loading } = useResource((signal) => loadResult(job, number, signal), [job, number]);
  const row = data?.row;
  const title = row?.video ? row.video.slice(row.video.lastIndexOf("/") + 1) : `Result ${text}`;
  const crumbs = html`<a href=${placePath(place, "batch-predictions")}>Batch predictions</a> <span aria-hidden="true">/</span> <a href=${jobPath(place, job)}>Results</a>`;
  const beside = (by, name) => {
    const other = number + by;
    return data && other >= 1 && other <= data.page.total ? html`<${LinkButton} href=${withQuery(jobPath(place, job, "results", String(other)), comparisonOf(query))}>${name}<//>` : null;
  };
  const actions = html`${beside(-1, "Previous")}${beside(1, "Next")}`;
  return html`
    <${Page} title=${title} documentTitle="${title} – result ${text}" crumbs=${crumbs} actions=${actions}>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!data && loading && html`<${Loading} what="Loading the result" />`}
      ${data && !row && html`<${Notice} colour="amber"><p>The job has no result ${text}; there ${data.page.total === 1 ? "is" : "are"} ${plural(data.page.total, "result")}.</p><//>`}
      ${row && html`<${Result} place=${place} job=${job} number=${number} data=${data} query=${query} />`}
    <//>
  `;
}

function Result({ place, job, number, data, query }) {
  const { row, page, broken } = data;
  const lines = `line ${row.number} of the input, ${row.timeSegmentStart || "0s"} to ${row.timeSegmentEnd || "Infinity"}`;
  return html`
    <div class="resource"><code>${row.video || row.input}</code><span>${lines}</span></div>
    ${page.notes.map((note) => html`<${Notice} key=${note} colour="amber"><p>${note}</p><//>`)}
    ${row.error && html`<${ProblemBox} title="This line failed" problem=${row.error} />`}
    ${broken && html`<${ProblemBox} problem=${{ message: broken }} />`}
    ${row.bytes > LONGEST_RESULT && html`
      <${Notice} colour="amber"><p>This result has ${byteSize(row.bytes)}, which is too much for a page. <a download href="${resultsPath(job)}/${number}">Download it</a> instead.</p><//>
    `}
    ${!row.file && !row.error && html`<${Notice}><p>Nothing is predicted for this line yet.</p><//>`}
    ${row.video && html`<${Stage} place=${place} job=${job} row=${row} predictions=${data.predictions} query=${query} />`}
  `;
}

/** Everything that changes as the video does lies here and not in components: sixty times a second. */
function useStage(place, job, row, predictions, query) {
  const stage = useRef(null);
  const [, draw] = useState(0);
  if (!stage.current) stage.current = new StageState({ place, job, url: `${resultsPath(job)}/${row.number}` }, row, predictions, query, () => draw((count) => count + 1));
  const state = stage.current;
  useEffect(() => {
    state.begin();
    return () => state.close();
  }, []);
  // An effect may run late: then the address has moved on from what it was drawn for.
  useEffect(() => state.follow(readAddress().query), [query.t, query.track, query.min]);
  useEffect(() => state.compare(comparisonOf(readAddress().query)), COMPARE.map((name) => query[name] ?? ""));
  return state;
}

class StageState {
  constructor(where, row, predictions, query, draw) {
    Object.assign(this, { ...where, row, predictions, redraw: draw });
    this.question = { with: "" };
    this.comparison = null;
    this.showExpected = true;
    this.onlyDifferences = false;
    this.places = new Map([...new Set(predictions.map((one) => one.label))].map((label, index) => [label, index]));
    this.segment = { from: seconds(row.timeSegmentStart), to: /^\d/.test(row.timeSegmentEnd ?? "") ? seconds(row.timeSegmentEnd) : Infinity };
    this.longest = predictions.reduce((longest, one) => Math.max(longest, one.end + 0.1), 0.1);
    this.min = threshold(query.min ?? 0);
    this.chosen = Number(query.track) || 0;
    this.wanted = query.t ? seconds(query.t) : 0;
    this.written = addressOf(query);
    this.open = new Set();
    this.loop = false;
    this.rate = 1;
    this.stills = false;
    this.reason = "";
    this.problem = "";
    this.frame = null;
    this.settled = null;
    this.on = [];
    this.view = { from: 0, to: this.longest };
    this.narrow();
  }

  begin() {
    this.resize = new ResizeObserver(() => this.paint());
    this.resize.observe(this.box);
    this.resize.observe(this.line);
    this.open_();
  }

  /** Open the video in the way that is chosen. */
  open_() {
    this.player?.close();
    const { time } = this;
    this.frame = null;
    this.canvas?.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.ready = false;
    const hear = { onFrame: (frame) => this.hear(frame), onState: () => this.tell(time), onProblem: (reason) => this.fail(reason) };
    this.player = this.stills ? new StillPlayback(this.url, hear) : new NativePlayback(this.video, `${this.url}/video`, hear);
    if (this.stills) this.player.wanted = time;
    this.player.setRate(this.rate);
    this.redraw();
  }

  /** The browser cannot play it: show stills. If that fails too, say why. */
  async fail(reason) {
    if (this.stills) {
      this.problem = reason;
      this.ready = false;
    } else {
      this.stills = true;
      this.reason = "this browser cannot play it";
      this.open_();
      get(`${this.url}/video/info`).then(({ codec }) => codec && this.say(`this browser cannot play ${CODECS[codec.toLowerCase()] ?? codec}`), () => {});
    }
    this.redraw();
  }

  say(reason) {
    this.reason = reason;
    this.redraw();
  }

  switchMode() {
    this.stills = !this.stills;
    this.reason = this.stills ? "you asked for what the model saw" : "";
    this.problem = "";
    this.open_();
  }

  get duration() {
    return Math.max(this.player?.duration || 0, this.player?.duration ? 0.05 : this.longest);
  }

  tell(time) {
    const { duration } = this;
    if (this.lastDuration !== duration) {
      this.lastDuration = duration;
      this.view = { from: 0, to: duration };
    }
    if (!this.ready && this.player && (this.stills || this.player.first !== null)) {
      this.ready = true;
      if (time && !this.stills) this.player.seek(time);
    }
    this.paint();
    this.redraw();
  }

  hear(frame) {
    this.frame = frame;
    if (this.loop && this.player.playing) this.turnBack(frame.time);
    // On its way to a frame the browser shows others: they are drawn, but no step has led to them.
    if (frame.settled) this.settled = frame;
    this.paint();
    if (!frame.settled) return;
    const now = performance.now();
    if (this.player.playing && now - (this.saidAt ?? 0) < CLOCK_PAUSE_MS) return;
    this.saidAt = now;
    this.redraw();
    this.address();
  }

  turnBack(time) {
    const one = this.predictions[this.chosen - 1];
    if (one && (time >= one.end || time < one.start - 0.2)) this.player.seek(one.start);
  }

  /** Draw the picture's boxes and the timeline. */
  paint() {
    if (this.frame && this.canvas) {
      fit(this.canvas, this.box, this.frame.width, this.frame.height);
      this.on = drawFrame(this.canvas, this.frame, { predictions: this.shown, expected: this.expectedShown, places: this.places, chosen: this.chosen });
    }
    if (this.player?.playing) this.view = reveal(this.view, this.duration, this.time);
    if (this.line) drawTimeline(this.line, { lanes: this.lanes, view: this.view, time: this.time, segment: this.segment, places: this.places, chosen: this.chosen, names: this.lanes.some((lane) => !lane.label) });
  }

  get time() {
    return this.settled?.time ?? this.wanted;
  }

  /** What is at or above the threshold. */
  narrow() {
    const { comparison, onlyDifferences } = this;
    const differs = (one) => !comparison || !onlyDifferences || comparison.status.get(one.number) === "extra";
    this.shown = this.predictions.filter((one) => one.confidence >= this.min - 1e-9 && differs(one));
    this.expectedShown = comparison && this.showExpected ? (onlyDifferences ? comparison.missed : comparison.expected) : [];
    this.lanes = [...lanesOf(this.shown, this.open), ...lanesOf(this.expectedShown).map((lane) => ({ ...lane, name: `${lane.name}, expected`, label: "", expected: true }))];
    this.times = predictedTimes(this.shown);
    this.starts = Float64Array.from(new Set(this.shown.map((one) => one.start))).sort();
  }

  setMin(value) {
    this.min = threshold(value);
    this.narrow();
    this.changed();
    clearTimeout(this.askTimer);
    this.askTimer = setTimeout(() => this.ask(), ADDRESS_PAUSE_MS);
  }

  /** Compare with something else, or with nothing. */
  compare(question) {
    if (JSON.stringify(question) === JSON.stringify(this.question)) return;
    this.question = question;
    this.comparison = null;
    this.difference = null;
    this.narrow();
    this.ask();
  }

  /** Ask the server what differs, of what is sure enough. */
  async ask() {
    this.asking?.abort();
    this.asking = new AbortController();
    this.compareProblem = null;
    const { question, asking, min } = this;
    try {
      this.comparison = question.with ? readComparison(await compareLine(this.job, this.row.number, { ...question, min }, asking.signal), this.predictions) : null;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.comparison = null;
      this.compareProblem = error;
    }
    this.narrow();
    this.paint();
    this.redraw();
  }

  /** Go to the next difference or the one before: in this result, then in another one. */
  async goToDifference(step) {
    const list = this.comparison?.differences ?? [];
    const at = list.indexOf(this.difference);
    const next = at >= 0 ? list[at + step] : step > 0 ? list.find((one) => one.start >= this.time - SAME_TIME_S) : list.findLast((one) => one.start <= this.time + SAME_TIME_S);
    if (next) return this.showDifference(next);
    if (!this.question.with) return undefined;
    const query = { ...this.question, min: this.min || "" };
    const line = await lineBeside(this.job, this.row.number, query, step).catch(() => null);
    if (!line) return announce(step > 0 ? "There is no further difference" : "There is no earlier difference");
    return navigate(withQuery(jobPath(this.place, this.job, "results", String(line.number)), { ...query, t: timeText(line.first) }));
  }

  showDifference(one) {
    this.difference = one;
    announce(one.side === "expected" ? `Missed: ${one.label}` : `Extra: ${one.label}`);
    this.chosen = one.side === "expected" ? 0 : one.number;
    this.seek(one.boxes[0]?.time ?? one.start);
    this.changed();
  }

  toggleExpected() {
    this.showExpected = !this.showExpected;
    this.narrow();
    this.changed();
  }

  setOnlyDifferences(on) {
    this.onlyDifferences = on;
    this.narrow();
    this.changed();
  }

  choose(number, { seek = true } = {}) {
    this.chosen = number;
    const one = this.predictions[number - 1];
    if (one && seek) this.seek(one.boxes[0]?.time ?? one.start);
    this.changed();
  }

  toggleLane(label) {
    if (!this.open.delete(label)) this.open.add(label);
    this.narrow();
    this.changed();
  }

  changed() {
    this.paint();
    this.redraw();
    this.address();
  }

  seek(time) {
    if (time === undefined) return;
    this.view = reveal(this.view, this.duration, time);
    this.player.seek(Math.min(Math.max(0, time), this.duration));
  }

  /** Go to the time before or after; that of the last step counts where no frame is just then. */
  async goBeside(times, step) {
    this.player.pause();
    const target = neighbour(times, this.aim?.shown === this.time ? this.aim.target : this.time, step);
    if (target === undefined) return;
    this.view = reveal(this.view, this.duration, target);
    await this.player.seek(target);
    this.aim = { shown: this.time, target };
  }

  toggle() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  setRate(rate) {
    this.rate = rate;
    this.player.setRate(rate);
    this.redraw();
  }

  /** Keep the address as what is shown. */
  address() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const query = { t: timeText(this.time), track: this.chosen || "", min: this.min ? this.min.toFixed(2) : "" };
      this.written = addressOf(query);
      navigate(withQuery(location.pathname, { ...query, ...this.question }), { replace: true });
    }, ADDRESS_PAUSE_MS);
  }

  /** Go where an address leads that is not our own. */
  follow({ t, track, min }) {
    const query = addressOf({ t, track, min });
    if (this.written === query) return;
    this.written = query;
    this.min = threshold(min ?? 0);
    this.chosen = Number(track) || 0;
    this.narrow();
    this.seek(seconds(t));
    this.paint();
    this.redraw();
  }

  close() {
    clearTimeout(this.timer);
    clearTimeout(this.askTimer);
    this.asking?.abort();
    this.resize?.disconnect();
    this.player?.close();
  }
}

const addressOf = ({ t = "", track = "", min = "" }) => [t, track, min].join(" ");

function Stage({ place, job, row, predictions, query }) {
  const state = useStage(place, job, row, predictions, query);
  const root = useRef(null);
  const onKeyDown = (event) => pressed(state, event, root.current) && event.preventDefault();
  return html`
    <div class="player" ref=${root} role="group" aria-label="Player" tabindex="0" onKeyDown=${onKeyDown}>
      <div class="player-main">
        <${Picture} state=${state} />
        <${Controls} state=${state} root=${root} />
        <${Timeline} state=${state} />
      </div>
      <${Predictions} state=${state} />
    </div>
    <details class="keys">
      <summary>Keys while the player has the focus</summary>
      <dl>${KEYS.map(([keys, what]) => html`<div key=${keys}><dt><kbd>${keys}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    </details>
  `;
}

function Picture({ state }) {
  return html`
    ${state.stills && !state.problem && html`<p class="player-note"><${Icon} name="about" />Shown as still pictures from the server, ten a second, because ${state.reason}.</p>`}
    <div class="picture" ref=${(element) => element && (state.box = element)} onClick=${() => state.ready && state.toggle()}>
      <video ref=${(element) => element && (state.video = element)} class=${state.stills ? "hidden" : ""} playsinline muted aria-hidden="true" tabindex="-1"></video>
      <canvas ref=${(element) => element && (state.canvas = element)} aria-hidden="true"></canvas>
      ${state.problem && html`<div class="picture-problem"><${ProblemBox} title="The video cannot be shown" problem=${{ message: state.problem }} /></div>`}
      ${!state.frame && !state.problem && html`<p class="picture-loading" role="status">Loading the video …</p>`}
    </div>
  `;
}

function Controls({ state, root }) {
  const playing = state.player?.playing;
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : root.current.requestFullscreen()).catch(() => {});
  return html`
    <div class="controls">
      <${Tool} name=${playing ? "Pause" : "Play"} icon=${playing ? "bars" : "play"} onClick=${() => state.toggle()} disabled=${!state.ready} />
      <${Tool} name="Previous frame" icon="back" onClick=${() => state.player.step(-1)} disabled=${!state.ready} />
      <${Tool} name="Next frame" icon="on" onClick=${() => state.player.step(1)} disabled=${!state.ready} />
      <span class="clock" aria-live="off"><output aria-label="Time">${clockText(state.time)}</output> <span class="clock-end">/ ${clockText(state.duration)}</span></span>
      <label class="tool-field"><span>Speed</span>
        <select aria-label="Speed" value=${String(state.rate)} onChange=${(event) => state.setRate(Number(event.target.value))}>${RATES.map((rate) => html`<option key=${rate} value=${String(rate)}>${rate}×</option>`)}</select>
      </label>
      <${Tool} name="Loop the chosen prediction" icon="refresh" pressed=${state.loop} disabled=${!state.chosen} onClick=${() => loop(state)} />
      <${Tool} name="Show what the model saw" icon="grid" pressed=${state.stills} onClick=${() => state.switchMode()} />
      <${Tool} name="Full screen" icon="full" onClick=${full} />
    </div>
  `;
}

function Tool({ name, icon, pressed: on, ...rest }) {
  return html`<button type="button" class="tool" aria-label=${name} title=${name} aria-pressed=${on === undefined ? undefined : String(on)} ...${rest}><${Icon} name=${icon} /></button>`;
}

function loop(state) {
  state.loop = !state.loop;
  announce(state.loop ? "Loop on" : "Loop off");
  state.redraw();
}

function Timeline({ state }) {
  const drag = useRef(null);
  const at = (event) => toTime(state.view, state.line.clientWidth, event.clientX - state.line.getBoundingClientRect().left);
  const zoomBy = (factor, time = state.time) => {
    state.view = zoom(state.view, state.duration, factor, Math.min(Math.max(time, state.view.from), state.view.to));
    state.paint();
    state.redraw();
  };
  const down = (event) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    drag.current = { x: event.clientX, view: state.view, moved: false };
  };
  const move = (event) => {
    const from = drag.current;
    if (!from) return;
    const by = from.x - event.clientX;
    from.moved ||= Math.abs(by) > 4;
    if (!from.moved) return;
    state.view = pan(from.view, state.duration, (by / state.line.clientWidth) * (from.view.to - from.view.from));
    state.paint();
  };
  const up = (event) => {
    if (drag.current && !drag.current.moved && state.ready) state.seek(at(event));
    drag.current = null;
  };
  useLayoutEffect(() => {
    // Preact's listeners are passive for the wheel; this one keeps the page where it is.
    const wheel = (event) => {
      if (!event.ctrlKey && !event.shiftKey && Math.abs(event.deltaX) < Math.abs(event.deltaY) && !event.altKey) return;
      event.preventDefault();
      if (event.ctrlKey || event.altKey) zoomBy(1.002 ** event.deltaY, at(event));
      else {
        const span = state.view.to - state.view.from;
        state.view = pan(state.view, state.duration, ((event.deltaX || event.deltaY) / state.line.clientWidth) * span);
        state.paint();
      }
    };
    state.line.addEventListener("wheel", wheel, { passive: false });
    return () => state.line?.removeEventListener("wheel", wheel);
  }, []);
  const labels = state.shown.filter((one) => state.on.includes(one.number)).map((one) => one.label);
  return html`
    <div class="timeline">
      <div class="lane-names">
        ${state.lanes.map((lane) => html`<${LaneName} key=${lane.name} state=${state} lane=${lane} />`)}
      </div>
      <div class="lane-area" role="slider" tabindex="0" aria-label="Time" aria-valuemin="0" aria-valuemax=${state.duration.toFixed(3)} aria-valuenow=${state.time.toFixed(3)}
        aria-valuetext=${[`${state.time.toFixed(3)} seconds`, ...new Set(labels)].join(", ")}>
        <canvas ref=${(element) => element && (state.line = element)} aria-hidden="true" onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${() => (drag.current = null)}></canvas>
      </div>
      <div class="timeline-tools">
        <${Tool} name="Zoom in" icon="plus" onClick=${() => zoomBy(0.5)} />
        <${Tool} name="Zoom out" icon="minus" onClick=${() => zoomBy(2)} />
      </div>
    </div>
  `;
}

function LaneName({ state, lane }) {
  if (!lane.label || lane.items.length > 50 || (lane.items.length < 2 && !state.open.has(lane.label))) return html`<span title=${lane.name}><bdi>${lane.name}</bdi></span>`;
  const isOpen = state.open.has(lane.label);
  return html`<button type="button" title=${isOpen ? "One lane a label" : "One lane a prediction"} aria-expanded=${String(isOpen)} onClick=${() => state.toggleLane(lane.label)}><bdi>${lane.name}</bdi><span class="quiet"> ${isOpen ? "" : lane.items.length}</span></button>`;
}

function Predictions({ state }) {
  const { shown, predictions, on } = state;
  const count = `${shown.length.toLocaleString("en")} of ${predictions.length.toLocaleString("en")}`;
  const listed = shown.slice(0, SHOWN_PREDICTIONS);
  const change = (event) => state.setMin(event.target.value);
  return html`
    <div class="predictions">
      <${Comparison} state=${state} />
      <div class="threshold">
        <label for="threshold">Threshold</label>
        <input id="threshold" type="range" min="0" max="1" step="0.01" value=${state.min} onInput=${change} />
        <input type="number" min="0" max="1" step="0.01" aria-label="Threshold as a number" value=${state.min.toFixed(2)} onChange=${change} />
        <span class="quiet" role="status">${count}</span>
      </div>
      ${state.comparison && html`<${Thresholds} rows=${state.comparison.thresholds} chosen=${state.min} onChoose=${(min) => state.setMin(min)} />`}
      ${!predictions.length && state.row.file && !state.row.error && html`<p class="pad">The model found nothing.</p>`}
      ${predictions.length > 0 && !shown.length && html`<p class="pad">Nothing at or above ${state.min.toFixed(2)}.</p>`}
      ${shown.length > 0 && html`
        <div class="list" tabindex="0" role="region" aria-label="Predictions">
          <table>
            <thead><tr><th scope="col">Prediction</th><th scope="col" class="number">From</th><th scope="col" class="number">To</th><th scope="col" class="number">Confidence</th></tr></thead>
            <tbody>${listed.map((one) => html`<${Prediction} key=${one.number} state=${state} one=${one} on=${on.includes(one.number)} />`)}</tbody>
          </table>
          ${shown.length > listed.length && html`<p class="hint pad">The first ${SHOWN_PREDICTIONS} are listed; all are on the timeline. Raise the threshold to see fewer.</p>`}
        </div>
      `}
    </div>
  `;
}

function Prediction({ state, one, on }) {
  const style = styleOf(state.places.get(one.label));
  const chosen = state.chosen === one.number;
  const kind = { shot: "shot", second: "second", segment: "segment" }[one.kind];
  return html`
    <tr class="${chosen ? "picked" : ""} ${on ? "on" : ""}">
      <td><button type="button" class="link" aria-pressed=${String(chosen)} onClick=${() => state.choose(one.number)}>
        <svg class="swatch c${style.index}" viewBox="0 0 16 16" aria-hidden="true"><rect x="1.5" y="1.5" width="13" height="13" rx="3" /></svg><span class="quiet">${one.number}</span> <bdi>${one.label}</bdi>${kind && html` <span class="quiet">${kind}</span>`}
      </button>${state.comparison && html`<${Status} name=${state.comparison.status.get(one.number) ?? ""} iou=${state.comparison.ious.get(one.number)} />`}</td>
      <td class="number">${one.start.toFixed(3)}</td><td class="number">${one.end.toFixed(3)}</td><td class="number">${one.confidence.toFixed(2)}</td>
    </tr>
  `;
}

function Status({ name, iou }) {
  const icon = { matched: "tick", extra: "plus", missed: "cross" }[name];
  return icon ? html`<span class="status ${name}"><${Icon} name=${icon} />${name}${iou !== undefined && html` <span class="quiet">IoU ${iou.toFixed(2)}</span>`}</span>` : "";
}

/** What the predictions are compared with, and how that came out. */
function Comparison({ state }) {
  const [asks, setAsks] = useState(false);
  const { comparison, question } = state;
  const here = (query) => navigate(withQuery(location.pathname, { t: timeText(state.time), min: state.min ? state.min.toFixed(2) : "", ...query }), { replace: true });
  const ask = ({ min, ...query }) => {
    setAsks(false);
    if (min !== "") state.setMin(min);
    here(query);
  };
  return html`
    <div class="comparison">
      ${question.with
        ? html`<p><span class="quiet">Compared with</span> <bdi class="prose">${otherText(question.with)}</bdi></p>`
        : html`<${Button} kind="small" onClick=${() => setAsks(true)}>Compare<//>`}
      ${state.compareProblem && html`<${ProblemBox} problem=${state.compareProblem} />`}
      ${comparison && html`<p role="status"><strong>${countsText(comparison.counts)}</strong></p>${comparison.notes.map((note) => html`<p key=${note} class="hint">${note}</p>`)}`}
      ${question.with && html`
        <div class="comparison-tools">
          ${comparison && html`
            <${Button} kind="small" onClick=${() => state.goToDifference(-1)}>Previous difference<//>
            <${Button} kind="small" onClick=${() => state.goToDifference(1)}>Next difference<//>
            <label class="choice"><input type="checkbox" checked=${state.onlyDifferences} onChange=${(event) => state.setOnlyDifferences(event.target.checked)} />Only differences</label>
            <label class="choice"><input type="checkbox" checked=${state.showExpected} onChange=${() => state.toggleExpected()} />Expected boxes</label>
          `}
          <${Button} kind="small" onClick=${() => setAsks(true)}>Change<//>
          <${Button} kind="small" onClick=${() => here({})}>Stop comparing<//>
        </div>
      `}
      ${comparison?.missed.length > 0 && html`<${Missed} state=${state} />`}
      ${asks && html`
        <${Dialog} title="Compare" onClose=${() => setAsks(false)} actions=${html`<${Button} onClick=${() => setAsks(false)}>Close<//>`}>
          <${Question} place=${state.place} query=${{ ...question, min: state.min ? state.min.toFixed(2) : "" }} onAsk=${ask} />
        <//>
      `}
    </div>
  `;
}

function Missed({ state }) {
  return html`
    <ul class="missed-list" aria-label="Missed">
      ${state.comparison.missed.slice(0, SHOWN_PREDICTIONS).map((one) => html`
        <li key=${one.number} class=${state.difference === one ? "picked" : ""}>
          <button type="button" class="link" onClick=${() => state.showDifference(one)}><${Status} name="missed" /> <bdi>${one.label}</bdi> <span class="quiet">${one.start === one.end ? `at ${one.start.toFixed(3)}` : `${one.start.toFixed(3)} to ${one.end.toFixed(3)}`}</span></button>
          ${one.nearest && html`<p class="hint prose">nearest: ${one.nearest}</p>`}
        </li>
      `)}
    </ul>
  `;
}

/** What a key does; whether it did anything. */
function pressed(state, event, root) {
  const { key, target, shiftKey: shift } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const field = target.matches("input, select, textarea");
  if (field && !(target.type === "range" && !/^(Arrow|Home|End|Page)/.test(key))) return false;
  if (key === " " && target.matches("button, a")) return false;
  const action = actions(state, root, shift)[key.length === 1 ? key.toLowerCase() : key];
  if (!action || (!state.ready && !["-", "+", "="].includes(key))) return false;
  action();
  return true;
}

function actions(state, root, shift) {
  const { player, time } = state;
  const arrow = (step) => () => (shift ? state.seek(time + step) : player.step(step));
  const near = (times, step) => () => state.goBeside(times, step);
  return {
    " ": () => state.toggle(),
    ArrowLeft: arrow(-1), ArrowRight: arrow(1),
    ",": near(state.times, -1), ".": near(state.times, 1), "[": near(state.starts, -1), "]": near(state.starts, 1),
    Home: () => state.seek(0), End: () => state.seek(state.duration),
    ArrowUp: () => chooseBeside(state, -1), ArrowDown: () => chooseBeside(state, 1),
    "-": () => state.setMin(state.min - 0.05), "+": () => state.setMin(state.min + 0.05), "=": () => state.setMin(state.min + 0.05),
    l: () => state.chosen && loop(state),
    s: () => state.switchMode(),
    n: () => state.goToDifference(shift ? -1 : 1),
    e: () => state.comparison && state.toggleExpected(),
    f: () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()).catch(() => {}),
  };
}

function chooseBeside(state, step) {
  const { shown, chosen } = state;
  const at = shown.findIndex((one) => one.number === chosen);
  const next = shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : at + step];
  if (next) state.choose(next.number);
}
