/** The journal: what was called, newest first. */
import { html, useEffect, useState } from "./third_party/htm-preact.js";
import { call, get, useResource } from "./api.js";
import { localTime, plural, utcTime } from "./format.js";
import { curlOfEntry } from "./request.js";
import { navigate, ROOT, withQuery } from "./router.js";
import { Button, Code, Confirm, CopyButton, Empty, Field, fieldProps, Loading, Page, ProblemBox } from "./ui.js";

const LOOK_MS = 2000;
const SHOWN = 100;
const FILTERS = [["method", "Method", "Get*"], ["project", "Project", "my-project"], ["status", "Status", "NOT_FOUND"], ["contains", "Contains", "text of the request"]];

export default function Requests({ query }) {
  const wanted = Object.fromEntries(FILTERS.map(([name]) => [name, query[name] ?? ""]));
  const { data, error, loading, refresh } = useResource((signal) => get("/_emulator/requests", { signal, query: wanted }), [JSON.stringify(wanted)]);
  const [shown, setShown] = useState(SHOWN);
  const [asks, setAsks] = useState(false);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || refresh(), LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  const entries = [...(data?.requests ?? [])].reverse();
  const narrowed = Object.values(wanted).some(Boolean);
  const clear = html`<${Button} disabled=${!entries.length} onClick=${() => setAsks(true)}>Forget all<//>`;
  return html`
    <${Page} title="Requests" actions=${clear}>
      <p class="quiet">The last 1000 calls of Vertex AI's API and the last 1000 of Cloud Storage. What this console reads is not among them, but for downloads.</p>
      <${Narrow} wanted=${wanted} />
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!data && loading && html`<${Loading} what="Loading requests" />`}
      ${data && !entries.length && html`<${Empty} title=${narrowed ? "No call fits." : "Nothing was called yet."}
        actions=${narrowed && html`<${Button} onClick=${() => navigate(`${ROOT}/requests`)}>Clear the filters<//>`}>${!narrowed && html`<p>Point a client at <code>${location.origin}</code>, and its calls appear here.</p>`}<//>`}
      ${entries.length > 0 && html`
        <p role="status" class="quiet">${plural(data.count, "call")}${data.forgotten ? `, ${plural(data.forgotten, "older one")} forgotten` : ""}</p>
        <ul class="entries">${entries.slice(0, shown).map((entry) => html`<li key=${entry.number}><${Entry} entry=${entry} /></li>`)}</ul>
        ${entries.length > shown && html`<div class="pages"><${Button} onClick=${() => setShown(shown + SHOWN)}>Show more<//></div>`}
      `}
      ${asks && html`<${Confirm} title="Forget all calls?" verb="Forget" run=${async () => { await call("DELETE", "/_emulator/requests"); refresh(); }} onClose=${() => setAsks(false)}><p>Tests that ask for calls will not find them any more.</p><//>`}
    <//>
  `;
}

function Narrow({ wanted }) {
  const [values, setValues] = useState(wanted);
  const submit = (event) => {
    event.preventDefault();
    navigate(withQuery(`${ROOT}/requests`, values));
  };
  useEffect(() => setValues(wanted), [JSON.stringify(wanted)]);
  return html`
    <form class="narrow" role="search" aria-label="Narrow the calls" onSubmit=${submit}>
      ${FILTERS.map(([name, label, example]) => html`
        <${Field} key=${name} id="by-${name}" label=${label}>
          <input ...${fieldProps(`by-${name}`)} value=${values[name]} placeholder=${example} autocomplete="off" spellcheck="false" onInput=${(event) => setValues({ ...values, [name]: event.target.value })} />
        <//>
      `)}
      <button class="button">Apply</button>
    </form>
  `;
}

function Entry({ entry }) {
  const [open, setOpen] = useState(false);
  const fine = entry.status === "OK";
  return html`
    <details onToggle=${(event) => setOpen(event.target.open)}>
      <summary>
        <time datetime=${entry.time} title=${utcTime(entry.time)}>${localTime(entry.time).slice(11)}</time>
        <span class="method">${entry.method.split("/").pop()}</span>
        <span class="state ${fine ? "green" : "red"}">${entry.status}</span>
        <span class="quiet">${entry.surface} ${entry.version}</span>
        <span class="quiet number">${entry.milliseconds < 10 ? entry.milliseconds.toFixed(1) : Math.round(entry.milliseconds)} ms</span>
      </summary>
      ${open && html`<${EntryBody} entry=${entry} />`}
    </details>
  `;
}

function EntryBody({ entry }) {
  const headers = Object.entries(entry.headers).map(([name, value]) => `${name}: ${value}`).join("\n");
  const curl = curlOfEntry(location.origin, entry);
  return html`
    <div class="entry">
      ${entry.faults.length > 0 && html`<p>A fault acted on it: ${entry.faults.join(", ")}.</p>`}
      <h2>Request</h2>
      ${entry.request ? html`<${Code} label="Request of call ${entry.number}" text=${JSON.stringify(entry.request, null, 2)} />` : html`<p class="quiet">It could not be read, or is too long to be kept.</p>`}
      ${headers && html`<h2>Headers</h2><${Code} label="Headers of call ${entry.number}" text=${headers} />`}
      ${curl && html`<div><${CopyButton} text=${curl} label="Copy as curl" /></div>`}
    </div>
  `;
}
