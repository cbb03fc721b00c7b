import assert from "node:assert/strict";
import { test } from "node:test";

const CONSOLE = "../../emulator/api/console";
const { boxAt, clockText, contain, isOn, lastAt, neighbour, predictedTimes, predictionsOf, seconds, threshold, timeText } = await import(`${CONSOLE}/times.js`);
const { lanesOf, marks, pan, reveal, toTime, toX, visible, zoom } = await import(`${CONSOLE}/timeline.js`);

const FRAME = 1 / 30;
const box = (time, left) => ({ time, left, right: left + 0.1, top: 0, bottom: 0.1 });
const close = (actual, expected) => assert.ok(Math.abs(actual - expected) < 1e-9, `${actual} is not ${expected}`);

test("durations and clocks", () => {
  assert.deepEqual(["1.200s", "47s", "2.766667s", "", undefined, "soon"].map(seconds), [1.2, 47, 2.766667, 0, 0, 0]);
  assert.equal(timeText(1.2), "1.200s");
  assert.deepEqual([0, 62.35, 3600.5, 59.9996].map(clockText), ["0:00.000", "1:02.350", "1:00:00.500", "1:00.000"]);
});

test("a result becomes predictions, whose missing fields are 0", () => {
  const frames = [{ timeOffset: "0.200s", xMax: 0.5, yMax: 0.5 }, { timeOffset: "0s", xMin: 0.1, xMax: 0.6, yMin: -0.2, yMax: 1.3 }];
  const [track, action, shot, second] = predictionsOf({
    prediction: [
      { displayName: "cat", timeSegmentStart: "0s", timeSegmentEnd: "0.200s", confidence: 0.9, frames },
      { displayName: "jump", timeSegmentStart: "1s", timeSegmentEnd: "1s" },
      { displayName: "day", type: "shot-classification", timeSegmentStart: "0s", timeSegmentEnd: "2s", confidence: 0.5 },
      { displayName: "day", type: "one-sec-interval-classification", timeSegmentStart: "2.500s", timeSegmentEnd: "2.500s" },
    ],
  });
  assert.deepEqual([second.kind, second.start, second.end], ["second", 2, 3]);
  assert.deepEqual([track.kind, action.kind, shot.kind], ["track", "moment", "shot"]);
  assert.deepEqual(track.boxes.map(({ time }) => time), [0, 0.2]);
  assert.deepEqual(track.boxes[0], { time: 0, left: 0.1, right: 0.6, top: -0.2, bottom: 1.3 });
  assert.equal(track.boxes[1].left, 0);
  assert.deepEqual([action.number, action.confidence], [2, 0]);
  for (const broken of [null, {}, { prediction: 3 }, { prediction: [null] }]) predictionsOf(broken);
});

test("a box moves in a straight line between two that are a second apart or less", () => {
  const boxes = [box(1, 0), box(1.5, 0.5), box(3, 0.5)];
  assert.equal(boxAt(boxes, 0.9, FRAME), null);
  close(boxAt(boxes, 1, FRAME).left, 0);
  close(boxAt(boxes, 1.1, FRAME).left, 0.1);
  close(boxAt(boxes, 1.4995, FRAME).left, 0.5);
  assert.equal(boxAt(boxes, 1.6, FRAME), null);
  close(boxAt(boxes, 1.51, FRAME).left, 0.5);
  assert.equal(boxAt(boxes, 3.02, FRAME), null);
  close(boxAt(boxes, 2.99, FRAME).left, 0.5);
});

test("a box of one moment is there for one frame at any place of the frames", () => {
  for (const shift of [0, 0.004, 0.0166]) {
    const on = Array.from({ length: 30 }, (_, index) => index * FRAME + shift).filter((time) => boxAt([box(0.5, 0)], time, FRAME));
    assert.equal(on.length, 1, `${shift}: ${on}`);
  }
});

test("what has no boxes is on from its start to before its end, or for a frame", () => {
  assert.ok(isOn({ start: 1, end: 2 }, 1, FRAME) && isOn({ start: 1, end: 2 }, 1.99, FRAME));
  assert.ok(!isOn({ start: 1, end: 2 }, 2, FRAME) && !isOn({ start: 1, end: 2 }, 0.99, FRAME));
  assert.ok(isOn({ start: 1, end: 1 }, 1.01, FRAME) && !isOn({ start: 1, end: 1 }, 1.02, FRAME));
});

test("neighbours of a time", () => {
  const times = predictedTimes([{ boxes: [box(1, 0), box(0.5, 0)] }, { boxes: [], start: 10 }, { boxes: [box(1, 0)] }]);
  assert.deepEqual([...times], [0.5, 1, 10]);
  assert.equal(neighbour(times, 0.5, 1), 1);
  assert.equal(neighbour(times, 0.4999, 1), 1);
  assert.equal(neighbour(times, 1, -1), 0.5);
  assert.equal(neighbour(times, 10, 1), undefined);
  assert.equal(neighbour(times, 0.5, -1), undefined);
  assert.equal(lastAt(3, (index) => times[index], 99), 2);
});

test("a picture fits into its box", () => {
  assert.deepEqual(contain(320, 180, 640, 480), { left: 0, top: 60, width: 640, height: 360 });
  assert.deepEqual(contain(90, 160, 640, 320), { left: 230, top: 0, width: 180, height: 320 });
  assert.deepEqual([threshold("0.333"), threshold(-1), threshold("x"), threshold(9)], [0.33, 0, 0, 1]);
});

test("lanes are labels, or parts of a classification", () => {
  const one = (number, label, kind, start) => ({ number, label, kind, start, end: start + 1 });
  const tracks = [one(1, "cat", "track", 3), one(2, "dog", "track", 0), one(3, "cat", "track", 1)];
  assert.deepEqual(lanesOf(tracks).map(({ name, items }) => [name, items.map(({ number }) => number)]), [["cat", [3, 1]], ["dog", [2]]]);
  assert.deepEqual(lanesOf(tracks, new Set(["cat"])).map(({ name }) => name), ["cat 1", "dog", "cat 3"]);
  const parts = [one(1, "day", "second", 0), one(2, "day", "segment", 0)];
  assert.deepEqual(lanesOf(parts).map(({ name }) => name), ["Segment", "Seconds"]);
});

test("zooming keeps the point, panning the span, and both the video", () => {
  const view = zoom({ from: 0, to: 100 }, 100, 0.5, 20);
  assert.deepEqual(view, { from: 10, to: 60 });
  assert.deepEqual(zoom(view, 100, 10, 20), { from: 0, to: 100 });
  close(zoom(view, 100, 1e-9, 20).to - zoom(view, 100, 1e-9, 20).from, 0.2);
  assert.deepEqual(pan(view, 100, 999), { from: 50, to: 100 });
  assert.deepEqual(pan(view, 100, -999), { from: 0, to: 50 });
  assert.equal(reveal(view, 100, 30), view);
  assert.deepEqual(reveal(view, 100, 70), { from: 50, to: 100 });
  close(toTime(view, 500, toX(view, 500, 33)), 33);
});

test("marks stand apart, at round times", () => {
  assert.deepEqual(marks({ from: 0, to: 6 }, 600), { times: [0, 1, 2, 3, 4, 5, 6], step: 1 });
  for (const span of [0.2, 7, 90, 11000]) {
    const { times } = marks({ from: 1, to: 1 + span }, 800);
    assert.ok(times.length >= 1 && times.length <= 11, `${span}: ${times.length}`);
  }
});

test("of a hundred thousand predictions only those that can be seen are drawn", () => {
  const many = Array.from({ length: 100000 }, (_, index) => ({ label: "cat", confidence: 0.9, start: index / 10, end: index / 10 }));
  assert.ok(visible(many, { from: 0, to: 10000 }, 800).length <= 801);
  assert.equal(visible(many, { from: 50, to: 51 }, 800).length, 11);
});
