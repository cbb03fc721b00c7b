/** What differs between what was found and what was expected, as the server tells it. No DOM here. */
import { predictionsOf } from "./times.js";

/** Parameters of an address that say what to compare with, and how. */
export const COMPARE = ["with", "within", "iou"];

/** The parameters of a comparison among those of an address. */
export const comparisonOf = (query) => Object.fromEntries(COMPARE.map((name) => [name, query[name] ?? ""]));

/** What a comparison is with, in words. */
export function otherText(other) {
  if (other === "truth") return "the truth";
  return other.startsWith("gs://") ? other : `job ${other.split("/").pop()}`;
}

/**
 * The server's answer about one result, ready to be shown.
 * @param {object} answer from `results/N/compare`
 * @param {object[]} found the result's predictions
 */
export function readComparison(answer, found) {
  const expected = predictionsOf({ prediction: answer.expected });
  const pairs = new Map(answer.pairs.map((pair) => [pair.expected, pair]));
  const nearest = new Map(answer.missed.map((one) => [one.expected, one.nearest ?? ""]));
  for (const one of expected) Object.assign(one, { side: "expected", missed: nearest.has(one.number), nearest: nearest.get(one.number) ?? "", pair: pairs.get(one.number) });
  const status = new Map([...answer.pairs.map((pair) => [pair.found, "matched"]), ...answer.extra.map((number) => [number, "extra"])]);
  const missed = expected.filter((one) => one.missed);
  const extra = found.filter((one) => status.get(one.number) === "extra");
  const differences = [...missed, ...extra].sort((a, b) => a.start - b.start || a.number - b.number);
  const ious = new Map(answer.pairs.map((pair) => [pair.found, pair.iou]));
  return { expected, missed, status, ious, differences, counts: { matched: answer.pairs.length, missed: missed.length, extra: extra.length }, notes: answer.notes, thresholds: answer.thresholds };
}

/** "2 matched, 1 missed, none extra". */
export function countsText({ matched, missed, extra }) {
  return `${matched} matched, ${missed} missed, ${extra} extra`;
}
