/** The page of one job: what it is, what it does now, and what became of it. */
import { html, useEffect, useState } from "./third_party/htm-preact.js";
import { call, get, useResource } from "./api.js";
import { countsOf, describeState, duration, hasEnded, idOf, plural, shortState } from "./format.js";
import { throttled } from "./list.js";
import { listen, tellChange } from "./live.js";
import { Counts, Elapsed, Labels } from "./jobs.js";
import { jobPath, placePath, withQuery } from "./router.js";
import { announce, Button, Code, Confirm, CopyButton, Dialog, Icon, LinkButton, Loading, Notice, Page, ProblemBox, StateBadge, Time } from "./ui.js";
import Compare from "./compare.js";
import Results from "./results.js";

const LOOK_PAUSE_MS = 500;
const POLL_MS = 5000;
const TABS = { results: Results, compare: Compare, details: Details, steps: Steps, errors: Errors };

/** Everything that is known of a job, kept up to date. Reading it this way is no read that a pace counts. */
function useJob(id) {
  const resource = useResource((signal) => get(`/_emulator/jobs/${encodeURIComponent(id)}/explain`, { signal }), [id]);
  const { refresh } = resource;
  useEffect(() => {
    const look = throttled(refresh, LOOK_PAUSE_MS);
    const stop = listen((event) => (!event || idOf(event.job) === id) && look());
    // A deletion by another client makes no event.
    const timer = setInterval(() => document.hidden || look(), POLL_MS);
    return () => {
      stop();
      look.cancel();
      clearInterval(timer);
    };
  }, [id]);
  return resource;
}

export default function Job({ project, location, job: id, tab = "results", query }) {
  const place = { project, location };
  const { data, error, loading, refresh } = useJob(id);
  const job = data?.job;
  const words = job && describeState(job, data.pace.held).words;
  useEffect(() => void (words && announce(`${job.displayName}: ${words}`)), [words]);
  const crumbs = html`<a href=${placePath(place, "batch-predictions")}>Batch predictions</a>`;
  if (!job) {
    return html`
      <${Page} title="Job ${id}" crumbs=${crumbs}>
        ${loading ? html`<${Loading} what="Loading the job" />` : html`<${ProblemBox} problem=${error} />`}
      <//>
    `;
  }
  const gone = error?.status === 404;
  const View = TABS[tab] ?? Results;
  const failures = (job.partialFailures?.length ?? 0) + (job.error && shortState(job) !== "CANCELLED" ? 1 : 0);
  const tabs = [["results", "Results"], ["compare", "Compare"], ["details", "Details"], ["steps", "Steps"], ["errors", failures ? `Errors (${failures})` : "Errors"]];
  return html`
    <${Page} title=${job.displayName} documentTitle="${job.displayName} – ${words}" crumbs=${crumbs} actions=${!gone && html`<${Actions} place=${place} data=${data} onDone=${refresh} />`}>
      ${gone && html`<${Notice} colour="amber"><p><strong>This job has been deleted.</strong> What you see is its last state. Its output files stay in their bucket.</p><//>`}
      ${error && !gone && html`<${ProblemBox} problem=${error} />`}
      <${Summary} place=${place} data=${data} />
      <${TabLinks} tabs=${tabs} current=${tab} path=${(name) => jobPath(place, id, ...(name === "results" ? [] : [name]))} />
      <${View} key=${tab} place=${place} data=${data} job=${job} query=${query} />
    <//>
  `;
}

function TabLinks({ tabs, current, path }) {
  return html`
    <nav class="tabs" aria-label="Parts of the job">
      ${tabs.map(([name, text]) => html`<a key=${name} href=${path(name)} aria-current=${name === current ? "page" : undefined}>${text}</a>`)}
    </nav>
  `;
}

function Actions({ place, data, onDone }) {
  const { job, pace } = data;
  const [asks, setAsks] = useState("");
  const [problem, setProblem] = useState(null);
  const id = idOf(job.name);
  const ended = hasEnded(job);
  const release = () => call("POST", `/_emulator/jobs/${id}/release`).then(onDone, setProblem);
  const close = () => setAsks("");
  const cancels = shortState(job) === "CANCELLING";
  return html`
    ${problem && html`<${Dialog} title="The job cannot be released" onClose=${() => setProblem(null)} actions=${html`<${Button} onClick=${() => setProblem(null)}>Close<//>`}><${ProblemBox} problem=${problem} /><//>`}
    ${pace.held && html`<${Button} kind="primary" onClick=${release}>Release<//>`}
    <${LinkButton} href=${withQuery(placePath(place, "batch-predictions", "create"), { like: id })}>Create similar<//>
    <${Button} onClick=${() => setAsks("json")}>JSON<//>
    ${ended
      ? html`<${Button} kind="danger" onClick=${() => setAsks("delete")}>Delete<//>`
      : html`<${Button} disabled=${cancels} onClick=${() => setAsks("cancel")}>Cancel<//>`}
    ${asks === "json" && html`
      <${Dialog} title="The job as the API gives it" wide onClose=${close} actions=${html`<${Button} onClick=${close}>Close<//>`}>
        <${Code} label="JSON of the job" text=${JSON.stringify(job, null, 2)} />
      <//>
    `}
    ${asks === "cancel" && html`
      <${Confirm} title="Cancel this job?" verb="Cancel the job" run=${async () => { await call("POST", `/v1/${job.name}:cancel`); onDone(); }} onClose=${close}>
        <p>Files that it has written stay.</p>
      <//>
    `}
    ${asks === "delete" && html`
      <${Confirm} title="Delete this job?" verb="Delete the job" run=${async () => { await call("DELETE", `/v1/${job.name}`); tellChange(); onDone(); }} onClose=${close}>
        <p>The job is forgotten. Its output files stay in their bucket.</p>
      <//>
    `}
  `;
}

function Summary({ place, data }) {
  const { job, pace } = data;
  const since = job.endTime ?? (pace.held ? undefined : job.startTime) ?? job.updateTime;
  const model = idOf(job.model ?? "");
  const facts = [
    ["State", html`<${StateBadge} job=${job} held=${pace.held} /> <span class="quiet">since <${Time} value=${since} /></span>`],
    ["Instances", html`<${Counts} job=${job} />`],
    ["Frames", data.progress?.framesDone > 0 && html`<${Frames} progress=${data.progress} />`],
    ["Elapsed", html`<${Elapsed} job=${job} />`],
    ["Model", html`<a href=${placePath(place, "models", model)}><bdi>${job.modelDisplayName ?? model}</bdi></a>${job.modelVersionId && html`<span class="quiet"> @ ${job.modelVersionId}</span>`}`],
    ["Created", html`<${Time} value=${job.createTime} />`],
    ["Labels", job.labels && html`<${Labels} labels=${job.labels} />`],
  ];
  return html`
    <section class="card" aria-label="Summary">
      <dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      ${pace.held && html`<${Notice} colour="amber" icon="bars"><p>The job waits for a release${pace.readsLeft !== undefined ? `, or for ${plural(pace.readsLeft, "more read")}` : ""}. Its pace is <code>${pace.pace}</code>.</p><//>`}
      ${job.error && shortState(job) !== "CANCELLED" && html`<${Notice} colour="red" icon="cross"><p class="prose">${job.error.message}</p><//>`}
      <div class="resource"><code>${job.name}</code><${CopyButton} text=${job.name} label="Copy name" kind="small" /></div>
    </section>
  `;
}

/** How many frames a running job has sampled, and about how many are left. */
function Frames({ progress: { framesDone, framesLeft, framesPerSecond } }) {
  const left = framesLeft === undefined ? "" : `, about ${framesLeft} left`;
  const rate = framesPerSecond === undefined ? "" : ` (${framesPerSecond} a second)`;
  return html`${framesDone} done${left}<span class="quiet">${rate}</span>`;
}

/** Every field that is set, under its name in the API and in the API's order. */
function Details({ data }) {
  const { job, notHonoured, executionProvider, attempts, canned, pace } = data;
  const notes = new Map(notHonoured.map((one) => [camel(one.field), one]));
  const rows = flatten(job);
  const named = (path) => [...notes.keys()].find((name) => path === name || path.startsWith(`${name}.`));
  const missing = [...notes.keys()].filter((name) => !rows.some(([path]) => named(path) === name));
  const extras = [["Execution provider", canned ? "none, the predictions are canned" : executionProvider], ["Attempts", attempts], ["Pace", pace.pace]];
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Fields of the job">
      <table class="fields">
        <thead><tr><th scope="col">Field</th><th scope="col">Value</th></tr></thead>
        <tbody>
          ${rows.map(([path, value]) => html`<tr key=${path}><th scope="row"><code>${path}</code></th><td><${Value} value=${value} />${named(path) && html`<${NotHonoured} note=${notes.get(named(path))} />`}</td></tr>`)}
          ${missing.map((path) => html`<tr key=${path}><th scope="row"><code>${path}</code></th><td><${NotHonoured} note=${notes.get(path)} /></td></tr>`)}
          ${extras.map(([name, value]) => value ? html`<tr key=${name}><th scope="row">${name}</th><td>${value}</td></tr>` : null)}
        </tbody>
      </table>
    </div>
  `;
}

function Value({ value }) {
  if (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value)) return html`<${Time} value=${value} /> <span class="quiet">${value}</span>`;
  return html`<bdi>${typeof value === "string" ? value : JSON.stringify(value)}</bdi>`;
}

function NotHonoured({ note }) {
  return html`<p class="not-honoured"><${Icon} name="about" />${note.fidelity}: ${note.note}</p>`;
}

const camel = (path) => path.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** Paths and plain values of an object, in its own order. */
function flatten(value, path = "") {
  const plain = value === null || typeof value !== "object" || (Array.isArray(value) && value.every((one) => typeof one !== "object"));
  if (plain) return [[path, Array.isArray(value) && value.length === 1 ? value[0] : value]];
  return Object.entries(value).flatMap(([name, inner]) => flatten(inner, path ? `${path}.${name}` : name));
}

/** What happened to the job, in order; times count from its creation. */
function Steps({ data }) {
  const created = Date.parse(data.job.createTime);
  return html`
    <ol class="steps">
      ${data.steps.map((step, index) => html`
        <li key=${index}>
          <time datetime=${step.time} title=${step.time}>+${duration(Math.max(0, (Date.parse(step.time) - created) / 1000))}</time>
          <span class="step-kind">${step.step}</span>
          <span class="prose">${step.state ? html`<${StateBadge} job=${{ state: step.state }} /> ${step.text.slice(step.state.length)}` : step.text}</span>
        </li>
      `)}
    </ol>
  `;
}

function Errors({ data }) {
  const { job } = data;
  const failures = job.partialFailures ?? [];
  const failed = countsOf(job).failed;
  if (!job.error && !failures.length) return html`<${Notice}><p>${hasEnded(job) ? "Nothing failed." : "Nothing has failed so far."}</p><//>`;
  return html`
    ${job.error && html`<${ProblemBox} title="The job" problem=${{ message: job.error.message, status: `code ${job.error.code}` }} />`}
    ${failures.length > 0 && html`
      <h2>${plural(failed || failures.length, "instance")} failed</h2>
      <ul class="failures">${failures.map((one, index) => html`<li key=${index}><span class="prose">${one.message}</span><span class="quiet">code ${one.code}</span></li>`)}</ul>
    `}
  `;
}
