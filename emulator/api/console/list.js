/** How a list of jobs stays in its place while the jobs change. No DOM here. */

/**
 * The rows as they are shown, with what has changed, and the jobs that are new since. Rows never move.
 * @param {object[]} shown
 * @param {object[]} fetched the same page, read again
 * @returns {{jobs: object[], fresh: object[], lost: string[]}} `lost` are the shown jobs that the page has no more
 */
export function merge(shown, fetched) {
  const byName = new Map(fetched.map((job) => [job.name, job]));
  const known = new Set(shown.map((job) => job.name));
  return {
    jobs: shown.map((job) => byName.get(job.name) ?? job),
    fresh: fetched.filter((job) => !known.has(job.name) && job.createTime >= (shown[0]?.createTime ?? "")),
    lost: shown.filter((job) => !byName.has(job.name) && !job.gone).map((job) => job.name),
  };
}

/** The newest jobs of several lists. */
export function newest(lists, count) {
  return lists
    .flat()
    .sort((one, other) => (one.createTime < other.createTime ? 1 : -1))
    .slice(0, count);
}

/** Call `run` soon after the last of several occasions, but no more often than every `pause` milliseconds. */
export function throttled(run, pause) {
  let timer = 0;
  let last = 0;
  const later = () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = Date.now();
      run();
    }, Math.max(50, last + pause - Date.now()));
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
