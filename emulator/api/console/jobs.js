/** The page "Batch predictions": the jobs of a project, newest first. */
import { html, useEffect, useMemo, useRef, useState } from "./third_party/htm-preact.js";
import { call, get, useResource } from "./api.js";
import { countsOf, countText, duration, elapsedSeconds, hasEnded, idOf, plural } from "./format.js";
import { hasClause, modelClause, stateClause, todayClause, toggleClause } from "./filter.js";
import { merge, newest, throttled } from "./list.js";
import { listen, tellChange } from "./live.js";
import { EVERYWHERE, loadScopes } from "./place.js";
import { jobPath, navigate, placePath, withQuery } from "./router.js";
import { Button, Confirm, Empty, Icon, LinkButton, Loading, Page, ProblemBox, StateBadge, Time, useNow } from "./ui.js";
import { FirstSteps } from "./first.js";

const PAGE_SIZE = 50;
const LOOK_PAUSE_MS = 1000;
const AT_ONCE = 6;
const LOST_AT_ONCE = 20;
const CHIPS = [
  ["Running", stateClause("RUNNING")],
  ["Succeeded", stateClause("SUCCEEDED")],
  ["Failed", stateClause("FAILED")],
  ["Cancelled", stateClause("CANCELLED")],
];

const collection = (project, location) => `/v1/${["projects", project, "locations", location].map(encodeURIComponent).join("/")}/batchPredictionJobs`;

async function loadPage({ project, location }, filter, page, signal) {
  if (location !== EVERYWHERE) {
    const answer = await get(collection(project, location), { signal, query: { pageSize: PAGE_SIZE, filter, pageToken: page } });
    return { jobs: answer.batchPredictionJobs ?? [], next: answer.nextPageToken ?? "" };
  }
  const scopes = (await loadScopes(signal)).filter((scope) => scope.jobs && [scope.project, scope.number].includes(project));
  const pages = await Promise.all(scopes.map((scope) => loadPage({ project, location: scope.location }, filter, "", signal)));
  const jobs = newest(pages.map((one) => one.jobs), PAGE_SIZE);
  return { jobs, next: "", cut: pages.some((one) => one.next) || pages.reduce((sum, one) => sum + one.jobs.length, 0) > jobs.length };
}

/** The job as it is now; gone when there is none any more. Reading it this way is no read that a pace counts. */
async function reload(job) {
  try {
    return { ...job, ...(await get(`/_emulator/jobs/${idOf(job.name)}/explain`)).job };
  } catch (error) {
    return error.status === 404 ? { ...job, gone: true } : job;
  }
}

/** A page of jobs that follows what happens to them. */
function useJobs(place, filter, page) {
  const resource = useResource((signal) => loadPage(place, filter, page, signal), [place.project, place.location, filter, page]);
  const { data, setData } = resource;
  const latest = useRef(null);
  latest.current = data;
  useEffect(() => {
    const look = throttled(async () => {
      if (!latest.current) return;
      try {
        const found = await loadPage(place, filter, page);
        if (!latest.current.jobs.length) return setData(found);
        const merged = merge(latest.current.jobs, found.jobs);
        const lost = new Set(merged.lost.slice(0, LOST_AT_ONCE));
        const jobs = await Promise.all(merged.jobs.map((job) => (lost.has(job.name) ? reload(job) : job)));
        return setData({ ...latest.current, jobs, fresh: page ? [] : merged.fresh });
      } catch {
        return null; // The next event, or the server's return, looks again.
      }
    }, LOOK_PAUSE_MS);
    const stop = listen(look);
    return () => {
      stop();
      look.cancel();
    };
  }, [place.project, place.location, filter, page]);
  return resource;
}

export default function Jobs({ project, location, query }) {
  const place = { project, location };
  const { filter = "", page = "" } = query;
  const { data, error, loading, refresh } = useJobs(place, filter, page);
  const path = placePath(place, "batch-predictions");
  const show = (changes) => navigate(withQuery(path, { filter, ...changes }));
  const create = html`<${LinkButton} kind="primary" icon="plus" href=${placePath(place, "batch-predictions", "create")}>Create<//>`;
  const shown = data && !error;
  return html`
    <${Page} title="Batch predictions" actions=${create}>
      <${Filter} filter=${filter} error=${error} jobs=${data?.jobs ?? []} onChange=${(text) => show({ filter: text })} />
      ${!data && loading && html`<${Loading} what="Loading jobs" />`}
      ${shown && !data.jobs.length && html`<${Nothing} place=${place} filter=${filter} page=${page} onClear=${() => show({ filter: "" })} onCreated=${refresh} />`}
      ${shown && data.jobs.length > 0 && html`
        <${Table} key=${`${filter} ${page}`} place=${place} jobs=${data.jobs} fresh=${data.fresh ?? []} onRefresh=${refresh} />
        <${Pages} data=${data} page=${page} show=${show} />
      `}
    <//>
  `;
}

function Filter({ filter, error, jobs, onChange }) {
  const [text, setText] = useState(filter);
  useEffect(() => setText(filter), [filter]);
  const submit = (event) => {
    event.preventDefault();
    onChange(text.trim());
  };
  const chips = [...CHIPS, ["Today", todayClause()]];
  const names = [...new Set(jobs.map((job) => job.modelDisplayName).filter(Boolean))];
  const model = names.find((name) => hasClause(filter, modelClause(name))) ?? "";
  return html`
    <form class="filter" role="search" onSubmit=${submit}>
      <div class="filter-line">
        <label for="filter" class="unseen">Filter</label>
        <input id="filter" type="search" value=${text} placeholder='Filter, such as display_name:"nightly*" AND state="JOB_STATE_FAILED"' spellcheck="false"
          autocomplete="off" aria-describedby=${error ? "filter-error" : undefined} aria-invalid=${error ? "true" : undefined}
          onInput=${(event) => setText(event.target.value)} onSearch=${(event) => !event.target.value && filter && onChange("")} />
        <button class="button">Apply</button>
      </div>
      ${error && html`<p class="wrong-text prose" id="filter-error" role="alert">${fieldMessage(error)}</p>`}
      <div class="chips" role="group" aria-label="Common filters">
        ${chips.map(([words, clause]) => html`
          <button type="button" key=${words} class="chip" aria-pressed=${hasClause(filter, clause) ? "true" : "false"} onClick=${() => onChange(toggleClause(filter, clause))}>${words}</button>
        `)}
        ${names.length > 0 && html`
          <select class="chip" aria-label="Model" value=${model} onChange=${(event) => onChange(toggleClause(filter, modelClause(event.target.value || model)))}>
            <option value="">Any model</option>
            ${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
          </select>
        `}
      </div>
    </form>
  `;
}

/** The server's words about the field alone, without the frame that lists several. */
const fieldMessage = ({ details, message }) => details?.flatMap((detail) => detail.fieldViolations ?? [])[0]?.description ?? message;

function Nothing({ place, filter, page, onClear, onCreated }) {
  if (filter) {
    const clear = html`<${Button} onClick=${onClear}>Clear the filter<//>`;
    return html`<${Empty} title="No job matches the filter" actions=${clear}><p><code>${filter}</code></p><//>`;
  }
  if (page) return html`<${Empty} title="No more jobs" actions=${html`<${LinkButton} href=${placePath(place, "batch-predictions")}>Newest<//>`} />`;
  return html`<${FirstSteps} place=${place} onCreated=${onCreated} />`;
}

function Table({ place, jobs, fresh, onRefresh }) {
  const [picked, setPicked] = useState(() => new Set());
  const rows = jobs.filter((job) => picked.has(job.name));
  const all = rows.length === jobs.length;
  const toggle = (name) => {
    const next = new Set(picked);
    if (!next.delete(name)) next.add(name);
    setPicked(next);
  };
  const everywhere = place.location === EVERYWHERE;
  return html`
    <${Bulk} jobs=${rows} onDone=${() => { setPicked(new Set()); onRefresh(); tellChange(); }} onClear=${() => setPicked(new Set())} />
    ${fresh.length > 0 && html`<button type="button" class="fresh" onClick=${onRefresh}><${Icon} name="refresh" />${fresh.length >= PAGE_SIZE ? `${PAGE_SIZE} or more` : fresh.length} new</button>`}
    <div class="scroll">
      <table class="cards jobs" role="table">
        <caption class="unseen">Batch prediction jobs, newest first</caption>
        <thead role="rowgroup"><tr role="row">
          <th role="columnheader" class="check"><input type="checkbox" aria-label="Select all on this page" checked=${all} indeterminate=${rows.length > 0 && !all}
            onChange=${() => setPicked(new Set(all ? [] : jobs.map((job) => job.name)))} /></th>
          ${["Name", "State", "Model", ...(everywhere ? ["Location"] : []), "Instances", "Created", "Elapsed", "Labels"].map((name) => html`<th role="columnheader" scope="col" key=${name}>${name}</th>`)}
        </tr></thead>
        <tbody role="rowgroup">
          ${jobs.map((job) => html`<${Row} key=${job.name} place=${place} job=${job} everywhere=${everywhere} picked=${picked.has(job.name)} onPick=${toggle} />`)}
        </tbody>
      </table>
    </div>
  `;
}

function Row({ place, job, everywhere, picked, onPick }) {
  const [, , , location, , id] = job.name.split("/");
  const version = job.modelVersionId ?? "";
  return html`
    <tr role="row" class=${job.gone ? "gone" : picked ? "picked" : ""}>
      <td role="cell" class="check"><input type="checkbox" aria-label="Select ${job.displayName}" checked=${picked} disabled=${job.gone} onChange=${() => onPick(job.name)} /></td>
      <td role="cell" class="name"><a href=${jobPath({ ...place, location }, id)}><bdi>${job.displayName}</bdi></a><div class="id">${id}</div></td>
      <td role="cell" data-label="State">${job.gone ? html`<span class="state grey">Deleted</span>` : html`<${StateBadge} job=${job} />${job.error && hasEnded(job) && job.state !== "JOB_STATE_CANCELLED" && html`<div class="first-line" title=${job.error.message}>${job.error.message}</div>`}`}</td>
      <td role="cell" data-label="Model" class="model"><bdi>${job.modelDisplayName ?? idOf(job.model ?? "")}</bdi>${version && html`<span class="quiet"> @ ${version}</span>`}</td>
      ${everywhere && html`<td role="cell" data-label="Location" class="nowrap">${location}</td>`}
      <td role="cell" data-label="Instances"><${Counts} job=${job} /></td>
      <td role="cell" data-label="Created" class="nowrap created"><${Time} value=${job.createTime} /></td>
      <td role="cell" data-label="Elapsed" class="nowrap"><${Elapsed} job=${job} /></td>
      <td role="cell" data-label="Labels"><${Labels} labels=${job.labels} /></td>
    </tr>
  `;
}

export function Labels({ labels = {} }) {
  if (!Object.keys(labels).length) return null;
  return html`<div class="labels">${Object.entries(labels).map(([name, value]) => html`<span class="label" key=${name}><bdi>${name}: ${value}</bdi></span>`)}</div>`;
}

/** How many instances are done, in words and as a bar. */
export function Counts({ job }) {
  const counts = countsOf(job);
  const { done, failed, total } = counts;
  if (total === null) return html`<span class="quiet">${hasEnded(job) ? "–" : "not counted yet"}</span>`;
  return html`
    <div class="counts"><span>${countText(counts)}</span>
      <svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        <rect class="bar-all" width="100" height="4" /><rect class="bar-done" width=${total ? (100 * done) / total : 0} height="4" />
        <rect class="bar-failed" x=${total ? (100 * done) / total : 0} width=${total ? (100 * failed) / total : 0} height="4" />
      </svg>
    </div>
  `;
}

export function Elapsed({ job }) {
  const runs = !hasEnded(job) && Boolean(job.startTime);
  const now = useNow(runs);
  if (!job.startTime) return html`<span class="quiet">–</span>`;
  return html`<span aria-live="off">${duration(elapsedSeconds(job, now))}</span>`;
}

/** What can be done with the rows that are picked. */
function Bulk({ jobs, onDone, onClear }) {
  const [asks, setAsks] = useState("");
  const open = useMemo(() => jobs.filter((job) => !hasEnded(job)), [jobs]);
  const ended = useMemo(() => jobs.filter(hasEnded), [jobs]);
  if (!jobs.length) return null;
  const cancels = asks === "cancel";
  const chosen = cancels ? open : ended;
  const run = () => onEach(chosen, (job) => (cancels ? call("POST", `/v1/${job.name}:cancel`) : call("DELETE", `/v1/${job.name}`)), cancels ? "cancelled" : "deleted");
  return html`
    <div class="bulk" role="region" aria-label="Selection">
      <span>${plural(jobs.length, "job")} selected</span>
      <${Button} disabled=${!open.length} onClick=${() => setAsks("cancel")}>Cancel ${open.length || ""}<//>
      <${Button} disabled=${!ended.length} onClick=${() => setAsks("delete")}>Delete ${ended.length || ""}<//>
      <${Button} kind="plain" onClick=${onClear}>Clear selection<//>
    </div>
    ${asks && html`
      <${Confirm} title="${cancels ? "Cancel" : "Delete"} ${plural(chosen.length, "job")}?" verb="${cancels ? "Cancel" : "Delete"} ${plural(chosen.length, "job")}"
        run=${async () => { await run(); onDone(); }} onClose=${() => setAsks("")}>
        <p>${cancels ? "Files that the jobs have written stay." : "The output files stay in their buckets."}</p>
      <//>
    `}
  `;
}

/** Do something with each job, a few at a time; an error says how many failed, and why the first one did. */
async function onEach(jobs, act, done) {
  const waiting = [...jobs];
  const errors = [];
  const work = async () => {
    for (let job = waiting.shift(); job; job = waiting.shift()) {
      try {
        await act(job);
      } catch (error) {
        errors.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (!errors.length) return;
  errors[0].message = `${errors.length} of ${plural(jobs.length, "job")} could not be ${done}. ${errors[0].message}`;
  throw errors[0];
}

function Pages({ data, page, show }) {
  if (data.cut) return html`<p class="hint">These are the newest ${PAGE_SIZE} of all locations. Pick one location to see older jobs.</p>`;
  if (!page && !data.next) return null;
  return html`
    <nav class="pages" aria-label="Pages">
      <${Button} disabled=${!page} onClick=${() => show({ page: "" })}>Newest<//>
      <${Button} disabled=${!data.next} onClick=${() => show({ page: data.next })}>Older<//>
    </nav>
  `;
}
