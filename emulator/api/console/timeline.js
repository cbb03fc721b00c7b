/** What the timeline shows: lanes of predictions, and the stretch of time that is in view. No DOM here. */

const SHORTEST_VIEW_S = 0.2;
const KINDS = [["segment", "Segment"], ["shot", "Shots"], ["second", "Seconds"]];
/** Steps between marks, in seconds. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * Lanes from top to bottom: one for each part of a classification, else one for each label, or one for each
 * prediction of the labels in `open`.
 */
export function lanesOf(predictions, open = new Set()) {
  const lanes = KINDS.map(([kind, name]) => ({ name, items: predictions.filter((one) => one.kind === kind) })).filter((lane) => lane.items.length);
  const labels = new Map();
  for (const one of predictions) {
    if (one.kind !== "track" && one.kind !== "moment") continue;
    const name = open.has(one.label) ? `${one.label} ${one.number}` : one.label;
    if (!labels.has(name)) labels.set(name, { name, label: one.label, items: [] });
    labels.get(name).items.push(one);
  }
  const found = [...lanes, ...labels.values()];
  for (const lane of found) lane.items.sort((a, b) => a.start - b.start);
  return found;
}

/** A stretch of time around a point, `factor` times as long, within the video. */
export function zoom(view, duration, factor, at) {
  const span = Math.min(duration, Math.max(Math.min(SHORTEST_VIEW_S, duration), (view.to - view.from) * factor));
  const part = (at - view.from) / (view.to - view.from);
  return within({ from: at - part * span, to: at - part * span + span }, duration);
}

/** The stretch moved by so many seconds. */
export function pan(view, duration, by) {
  return within({ from: view.from + by, to: view.to + by }, duration);
}

function within(view, duration) {
  const span = view.to - view.from;
  const from = Math.min(Math.max(0, view.from), Math.max(0, duration - span));
  return { from, to: from + span };
}

/** The stretch moved, if need be, so that a time is in it. */
export function reveal(view, duration, time) {
  const span = view.to - view.from;
  if (time >= view.from && time <= view.to) return view;
  return within({ from: time - span * 0.1, to: time + span * 0.9 }, duration);
}

/** Times of marks in view that stand far enough apart, and the step between them. */
export function marks(view, width, gap = 80) {
  const least = ((view.to - view.from) / width) * gap;
  const step = STEPS.find((one) => one >= least) ?? Math.ceil(least / 3600) * 3600;
  const times = [];
  for (let index = Math.ceil(view.from / step - 1e-9); index * step <= view.to + 1e-9; index++) times.push(index * step + 0);
  return { times, step };
}

export const toX = (view, width, time) => ((time - view.from) / (view.to - view.from)) * width;
export const toTime = (view, width, x) => view.from + (x / width) * (view.to - view.from);

/** The items that reach into the view, as pixels; what is less than a pixel apart is drawn once. */
export function visible(items, view, width) {
  const shown = [];
  const last = new Map();
  for (const one of items) {
    if (one.start > view.to || one.end < view.from) continue;
    const left = toX(view, width, one.start);
    const right = Math.max(toX(view, width, one.end), left + 2);
    const key = `${one.label}/${one.confidence >= 0.5}`;
    if (right - left < 2.001 && left - (last.get(key) ?? -9) < 1) continue;
    last.set(key, left);
    shown.push({ one, left, right });
  }
  return shown;
}
