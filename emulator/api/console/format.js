/** Writes values for people. No DOM here. */

/** States: words, colour, shape. The shape tells them apart without the colour. */
const STATES = {
  QUEUED: ["Pending", "grey", "circle"],
  PENDING: ["Pending", "grey", "circle"],
  RUNNING: ["Running", "blue", "half"],
  UPDATING: ["Running", "blue", "half"],
  PAUSED: ["Paused", "amber", "bars"],
  CANCELLING: ["Cancelling", "grey", "slash"],
  CANCELLED: ["Cancelled", "grey", "slash"],
  SUCCEEDED: ["Succeeded", "green", "tick"],
  PARTIALLY_SUCCEEDED: ["Partially succeeded", "amber", "dash"],
  EXPIRED: ["Expired", "amber", "clock"],
  FAILED: ["Failed", "red", "cross"],
};
const ENDED = new Set(["SUCCEEDED", "FAILED", "CANCELLED", "PARTIALLY_SUCCEEDED", "EXPIRED"]);

export const shortState = (job) => (job.state ?? "").replace("JOB_STATE_", "");
export const hasEnded = (job) => ENDED.has(shortState(job));
export const idOf = (name) => name.slice(name.lastIndexOf("/") + 1);

/** Counts of a job's instances; `total` is null while it is unknown. */
export function countsOf(job) {
  const stats = job.completionStats ?? {};
  const [done, failed, left] = ["successfulCount", "failedCount", "incompleteCount"].map((name) => Number(stats[name] ?? 0));
  return { done, failed, total: !job.completionStats || left < 0 ? null : done + failed + left };
}

/** The words, colour and shape of a job's state. */
export function describeState(job, held = false) {
  const state = shortState(job);
  const [words, colour, shape] = STATES[state] ?? [state || "Unknown", "grey", "circle"];
  const { done, failed, total } = countsOf(job);
  if (held) return { words: `Held in ${words.toLowerCase()}`, colour: "amber", shape: "bars" };
  if (state === "RUNNING" && total) return { words: `${words} ${done + failed}/${total}`, colour, shape };
  if (state === "SUCCEEDED" && failed) return { words: `${words} with ${failed} failed`, colour: "green amber", shape };
  return { words, colour, shape };
}

/** "4 of 5, 1 failed" */
export function countText({ done, failed, total }) {
  if (total === null) return "";
  return failed ? `${done} of ${total}, ${failed} failed` : `${done} of ${total}`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** A time in the reader's zone, with seconds. */
export function localTime(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text ?? "";
  const pad = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function utcTime(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? "" : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "1 min 05 s"; less than ten seconds with tenths. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.max(0, seconds);
  if (whole < 9.95) return `${whole.toFixed(1)} s`;
  const rounded = Math.round(whole);
  const [hours, minutes, rest] = [Math.floor(rounded / 3600), Math.floor(rounded / 60) % 60, rounded % 60];
  const pad = (number) => String(number).padStart(2, "0");
  if (hours) return `${hours} h ${pad(minutes)} min`;
  return minutes ? `${minutes} min ${pad(rest)} s` : `${rest} s`;
}

/**
 * Seconds from a job's start, or its creation, to its end or to now. `now` is the server's time in
 * milliseconds: the reader's clock may be wrong.
 */
export function elapsedSeconds(job, now) {
  const from = Date.parse(job.startTime ?? job.createTime);
  const to = job.endTime ? Date.parse(job.endTime) : now;
  return (to - from) / 1000;
}

export function byteSize(bytes) {
  const count = Number(bytes);
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count / 1000;
  while (value >= 999.5 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[0]}`;
}

/** The words for an objective's short name. */
export function objectiveText(objective) {
  const words = (objective ?? "").toLowerCase().replaceAll("_", " ");
  return words ? words[0].toUpperCase() + words.slice(1) : "";
}
