/** Draws on canvases: boxes over the picture, and lanes of the timeline. */
import { boxAt, clockText, contain, isOn } from "./times.js";
import { marks, toX, visible } from "./timeline.js";

/** Eight colours of different lightness, for a dark ground; each with dashes of its own. */
const COLOURS = ["#4dabf7", "#ffd43b", "#ff8787", "#69db7c", "#e599f7", "#ffa94d", "#66d9e8", "#f1f3f5"];
const DASHES = [[], [10, 4], [3, 3], [12, 3, 3, 3], [6, 2], [2, 4], [14, 6], [5, 5]];
/** Of what is expected: white, in dots, with a tag at the bottom. */
const EXPECTED = { colour: "#ffffff", dash: [3, 4] };
const FONT = "system-ui, sans-serif";
const LANE = 26;
const RULER = 22;

/** Colour and dashes of a label, by its place among all labels. */
export const styleOf = (place) => ({ colour: COLOURS[place % 8], dash: DASHES[place % 8], index: place % 8 });

/** Draw the picture, if it is ours to draw, and the boxes of a moment. */
export function drawFrame(canvas, { time, frame, picture, width, height }, { predictions, expected = [], places, chosen }) {
  if (!width || !height) return [];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (picture) context.drawImage(picture, 0, 0, width, height);
  const scale = Math.max(1, width / (canvas.clientWidth || width));
  const on = [];
  for (const one of predictions) {
    const box = one.boxes.length ? boxAt(one.boxes, time, frame) : null;
    if (!box && (one.boxes.length || !isOn(one, time, frame))) continue;
    on.push(one.number);
    if (box) drawBox(context, box, one, { width, height, scale, style: styleOf(places.get(one.label)), chosen: chosen === one.number });
  }
  for (const one of expected) {
    const box = one.boxes.length ? boxAt(one.boxes, time, frame) : null;
    if (box) drawExpected(context, box, one, { width, height, scale });
  }
  const captions = predictions.filter((one) => !one.boxes.length && on.includes(one.number)).map((one) => [one, `${one.label} ${one.confidence.toFixed(2)}`, styleOf(places.get(one.label)).colour]);
  const wanted = expected.filter((one) => !one.boxes.length && isOn(one, time, frame)).map((one) => [one, expectedText(one), EXPECTED.colour]);
  drawCaptions(context, [...captions, ...wanted], scale);
  return on;
}

function drawBox(context, box, one, { width, height, scale, style, chosen }) {
  const [x, y] = [box.left * width, box.top * height];
  const [w, h] = [(box.right - box.left) * width, (box.bottom - box.top) * height];
  context.lineWidth = (chosen ? 6 : 4) * scale;
  context.setLineDash([]);
  context.strokeStyle = "#000a";
  context.strokeRect(x, y, w, h);
  context.lineWidth = (chosen ? 4 : 2) * scale;
  context.setLineDash(chosen ? [] : style.dash.map((length) => length * scale));
  context.strokeStyle = style.colour;
  context.strokeRect(x, y, w, h);
  context.setLineDash([]);
  tag(context, `${one.label} ${one.confidence.toFixed(2)}`, Math.max(0, x), y - 18 * scale < 0 ? Math.max(0, y) : y - 18 * scale, style.colour, scale);
}

const expectedText = (one) => `${one.missed ? "missed" : "expected"} ${one.label}`;

function drawExpected(context, box, one, { width, height, scale }) {
  const [x, y] = [box.left * width, box.top * height];
  const [w, h] = [(box.right - box.left) * width, (box.bottom - box.top) * height];
  context.setLineDash([]);
  context.lineWidth = 4 * scale;
  context.strokeStyle = "#0008";
  context.strokeRect(x, y, w, h);
  context.lineWidth = 2 * scale;
  context.setLineDash(EXPECTED.dash.map((length) => length * scale));
  context.strokeStyle = EXPECTED.colour;
  context.strokeRect(x, y, w, h);
  context.setLineDash([]);
  tag(context, expectedText(one), Math.max(0, x), Math.min(height - 18 * scale, y + h), EXPECTED.colour, scale);
}

function tag(context, text, x, y, colour, scale) {
  context.font = `600 ${12 * scale}px ${FONT}`;
  context.textBaseline = "middle";
  context.fillStyle = colour;
  context.fillRect(x, y, context.measureText(text).width + 10 * scale, 18 * scale);
  context.fillStyle = "#0b0e12";
  context.fillText(text, x + 5 * scale, y + 9.5 * scale);
}

function drawCaptions(context, shown, scale) {
  shown.slice(0, 8).forEach(([, text, colour], index) => tag(context, text, 10 * scale, (10 + index * 22) * scale, colour, scale));
}

export const timelineHeight = (lanes) => RULER + Math.max(1, lanes.length) * LANE + 6;

/** Draw the timeline; `x` of the playhead is that of `time`. */
export function drawTimeline(canvas, { lanes, view, time, segment, places, chosen, names }) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, timelineHeight(lanes)];
  if (!width) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  drawRuler(context, view, width, height);
  lanes.forEach((lane, index) => drawLane(context, lane, RULER + index * LANE, { view, width, places, chosen, names }));
  dim(context, view, width, height, segment);
  const x = toX(view, width, time);
  context.fillStyle = "#fff";
  context.fillRect(x - 1, 0, 2, height);
  context.beginPath();
  context.arc(x, 6, 5, 0, 7);
  context.fill();
}

function drawRuler(context, view, width, height) {
  const { times, step } = marks(view, width);
  context.font = `11px ${FONT}`;
  context.textBaseline = "top";
  for (const time of times) {
    const x = Math.round(toX(view, width, time)) + 0.5;
    context.fillStyle = "#ffffff1c";
    context.fillRect(x, 0, 1, height);
    context.fillStyle = "#aab4c0";
    const text = clockText(time);
    context.fillText(step < 1 ? text.slice(0, -2) : text.slice(0, -4), x + 4, 4);
  }
}

function drawLane(context, lane, top, { view, width, places, chosen, names }) {
  context.fillStyle = "#ffffff0d";
  context.fillRect(0, top + 1, width, LANE - 2);
  for (const { one, left, right } of visible(lane.items, view, width)) {
    if (lane.expected) {
      drawWanted(context, one, left, right, top);
      continue;
    }
    const style = styleOf(places.get(one.label));
    const tall = Math.max(4, (LANE - 6) * (0.25 + 0.75 * one.confidence));
    const y = top + LANE - 3 - tall;
    context.globalAlpha = chosen && chosen !== one.number ? 0.55 : 0.9;
    context.fillStyle = style.colour;
    if (one.kind === "moment") context.fillRect(left - 1.5, y, 3, tall);
    else context.fillRect(left, y, Math.max(2, right - left - 1), tall);
    context.globalAlpha = 1;
    if (chosen === one.number) outline(context, left, top, right);
    if (names && one.kind !== "moment" && right - left > 50) inside(context, one.label, left, right, top);
  }
}

/** An expectation is hollow; a cross says that it is missed. */
function drawWanted(context, one, left, right, top) {
  const wide = Math.max(4, right - left - 1);
  context.strokeStyle = EXPECTED.colour;
  context.lineWidth = 1.5;
  context.setLineDash(EXPECTED.dash);
  context.strokeRect(left + 0.5, top + 5, wide, LANE - 10);
  context.setLineDash([]);
  if (!one.missed) return;
  const [x, y, r] = [left + wide / 2, top + LANE / 2, 4];
  context.beginPath();
  for (const side of [1, -1]) {
    context.moveTo(x - r, y - r * side);
    context.lineTo(x + r, y + r * side);
  }
  context.stroke();
}

function outline(context, left, top, right) {
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.strokeRect(left - 1, top + 2, Math.max(4, right - left + 1), LANE - 4);
}

function inside(context, text, left, right, top) {
  context.save();
  context.beginPath();
  context.rect(left, top, right - left - 4, LANE);
  context.clip();
  context.font = `600 11px ${FONT}`;
  context.textBaseline = "alphabetic";
  context.fillStyle = "#0b0e12";
  context.fillText(text, Math.max(left, 0) + 5, top + LANE - 7);
  context.restore();
}

/** Darken what the request did not ask for. */
function dim(context, view, width, height, { from, to }) {
  context.fillStyle = "#0b0e12aa";
  const [left, right] = [toX(view, width, from), Math.min(width, toX(view, width, to))];
  if (left > 0) context.fillRect(0, 0, Math.min(left, width), height);
  if (right < width) context.fillRect(Math.max(0, right), 0, width, height);
}

/** Lay the canvas over the picture of the video, which keeps its shape within its box. */
export function fit(canvas, stage, width, height) {
  if (!width || !height) return;
  stage.style.aspectRatio = `${width} / ${height}`;
  const place = contain(width, height, stage.clientWidth, stage.clientHeight);
  Object.assign(canvas.style, { left: `${place.left}px`, top: `${place.top}px`, width: `${place.width}px`, height: `${place.height}px` });
}
