/** Writes clauses of the API's filter language, which the server alone understands fully. No DOM here. */

export const stateClause = (state) => `state="JOB_STATE_${state}"`;
export const modelClause = (name) => `model_display_name="${name.replace(/[\\"]/g, "\\$&")}"`;

/** Jobs created since midnight of the reader's day. */
export function todayClause(now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  return `create_time>="${midnight.toISOString().slice(0, 19)}Z"`;
}

/** The clauses of a filter that joins all by AND; a filter of another form is one clause. */
export function clausesOf(filter) {
  const parts = [];
  let part = "";
  let quote = "";
  let depth = 0;
  const words = filter.trim();
  for (let at = 0; at < words.length; at++) {
    const sign = words[at];
    if (sign === "\\") part += sign + (words[++at] ?? "");
    else if (quote) {
      part += sign;
      if (sign === quote) quote = "";
    } else if (depth === 0 && /^\s+(OR|or)\s/.test(words.slice(at))) return [words];
    else if (depth === 0 && /^\s+AND\s+/.test(words.slice(at))) {
      at += words.slice(at).match(/^\s+AND\s+/)[0].length - 1;
      parts.push(part);
      part = "";
    } else {
      if (sign === '"' || sign === "'") quote = sign;
      depth += (sign === "(") - (sign === ")");
      part += sign;
    }
  }
  return [...parts, part].map((text) => text.trim()).filter(Boolean);
}

export const hasClause = (filter, clause) => clausesOf(filter).includes(clause);

/** The filter with a clause in place of any other on the same field, or without it when it was there. */
export function toggleClause(filter, clause) {
  const field = clause.match(/^\w+/)[0];
  const others = clausesOf(filter).filter((text) => !new RegExp(`^${field}\\s*[=<>:!]`).test(text));
  const kept = hasClause(filter, clause) ? others : [...others, clause];
  return kept.map((text) => (kept.length > 1 && /\s(OR|or)\s/.test(text) && !/^\(.*\)$/.test(text) ? `(${text})` : text)).join(" AND ");
}
