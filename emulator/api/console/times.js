/** Predictions in time: what is where at a moment, and how a box moves between two. No DOM here. */

/** Boxes further apart than this are not joined by a straight line; the emulator's own rule. */
const LONGEST_JOIN_S = 1;
/** Containers such as WebM count whole milliseconds. */
export const SAME_TIME_S = 0.0006;

/** Seconds of a protobuf Duration: "1.200s"; 0 for what is none. */
export function seconds(text) {
  const value = parseFloat(String(text ?? "").replace(/s$/, ""));
  return Number.isFinite(value) ? value : 0;
}

/** A time for addresses and for people: "1.200s". */
export const timeText = (time) => `${time.toFixed(3)}s`;

/** "1:02.350", hours where there are any. */
export function clockText(time) {
  const whole = Math.max(0, Math.round(time * 1000));
  const [hours, minutes, rest] = [Math.floor(whole / 3600000), Math.floor(whole / 60000) % 60, whole % 60000];
  const tail = (rest / 1000).toFixed(3).padStart(6, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

// Fields that are 0 may be left out.
const member = (value, name) => value?.[name] ?? value?.[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)];
const number = (value, name) => Number(member(value, name) ?? 0) || 0;

/**
 * The predictions of a result, numbered from 1 as they stand in the file.
 * @returns {{number: number, label: string, confidence: number, start: number, end: number, kind: string, boxes: object[]}[]}
 */
export function predictionsOf(result) {
  const found = Array.isArray(result?.prediction) ? result.prediction : [];
  return found.map((one, index) => {
    const frames = member(one, "frames");
    const boxes = Array.isArray(frames) ? frames.map(boxOf).sort((a, b) => a.time - b.time) : [];
    const start = seconds(member(one, "timeSegmentStart"));
    const end = seconds(member(one, "timeSegmentEnd"));
    const kind = kindOf(one, boxes, start, end);
    // A second is named by its middle.
    const around = kind === "second" && start === end ? 0.5 : 0;
    return { number: index + 1, label: String(member(one, "displayName") ?? ""), confidence: number(one, "confidence"), start: start - around, end: end + around, kind, boxes };
  });
}

function boxOf(frame) {
  return { time: seconds(member(frame, "timeOffset")), left: number(frame, "xMin"), right: number(frame, "xMax"), top: number(frame, "yMin"), bottom: number(frame, "yMax") };
}

/** "track", "moment", or the part that a classification is of: "segment", "shot", "second". */
function kindOf(one, boxes, start, end) {
  const type = String(one?.type ?? "");
  if (type.startsWith("shot")) return "shot";
  if (type.startsWith("one-sec")) return "second";
  if (type.endsWith("classification")) return "segment";
  return !boxes.length && start === end ? "moment" : "track";
}

/** The place of the last of `count` values, in ascending order, that is not behind `time`; -1 if all are. */
export function lastAt(count, timeAt, time) {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timeAt(middle) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * Where a track is at a time, or null. Between two boxes it moves in a straight line; a box without a close
 * neighbour is there for one frame, whose length is `frame`.
 */
export function boxAt(boxes, time, frame) {
  const at = lastAt(boxes.length, (index) => boxes[index].time, time + SAME_TIME_S);
  const [before, after] = [boxes[at], boxes[at + 1]];
  if (before && time - before.time <= SAME_TIME_S) return before;
  if (before && after && after.time - before.time <= LONGEST_JOIN_S) return between(before, after, time);
  if (before && time - before.time < frame / 2) return before;
  return after && after.time - time <= frame / 2 ? after : null;
}

function between(before, after, time) {
  const part = (time - before.time) / (after.time - before.time);
  const mix = (name) => before[name] + (after[name] - before[name]) * part;
  return { time, left: mix("left"), right: mix("right"), top: mix("top"), bottom: mix("bottom") };
}

/** Whether something without boxes is on at a time: a moment for one frame, a stretch as long as it lasts. */
export function isOn(one, time, frame) {
  if (one.end <= one.start) return Math.abs(time - one.start) <= Math.max(frame / 2, SAME_TIME_S);
  return one.start <= time + SAME_TIME_S && time < one.end;
}

/** All times that something was predicted for, in ascending order, each once. */
export function predictedTimes(predictions) {
  const times = new Set();
  for (const one of predictions) {
    if (one.boxes.length) for (const box of one.boxes) times.add(box.time);
    else times.add(one.start);
  }
  return Float64Array.from(times).sort();
}

/** The time before or after `time` among times in ascending order; undefined if there is none. */
export function neighbour(times, time, step) {
  if (step > 0) return times[lastAt(times.length, (index) => times[index], time + SAME_TIME_S) + 1];
  return times[lastAt(times.length, (index) => times[index], time - SAME_TIME_S * 2)];
}

/** A picture's place in a box that it fits into as a whole. */
export function contain(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  return { left: (boxWidth - width * scale) / 2, top: (boxHeight - height * scale) / 2, width: width * scale, height: height * scale };
}

/** A threshold within 0 and 1, in hundredths. */
export const threshold = (value) => Math.round(Math.min(1, Math.max(0, Number(value) || 0)) * 100) / 100;
