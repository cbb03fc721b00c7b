/** Paces, faults, reset and snapshots: what docs/control.md describes. */
import { html, useState } from "./third_party/htm-preact.js";
import { call, get, useResource, useStore } from "./api.js";
import { tellChange } from "./live.js";
import { currentPlace } from "./place.js";
import { announce, Button, Confirm, Field, fieldProps, LinkButton, Loading, Notice, Page, ProblemBox } from "./ui.js";

const PACES = ["real", "immediate", "steps", "pending=2s,running=10s", "pending=2,running=3", "partially_succeeded"];
const FAULTS = [
  ["A call fails", { on: "rpc", method: "GetBatchPredictionJob", code: "UNAVAILABLE", times: 2 }],
  ["A call is slow", { on: "rpc", method: "*", delay: "500ms" }],
  ["A connection is reset", { on: "rpc", method: "CreateBatchPredictionJob", reset: true, times: 1 }],
  ["An instance fails", { on: "job", kind: "fail-instance", instance: 1, code: "INVALID_ARGUMENT", message: "broken" }],
  ["A video is unreadable", { on: "job", kind: "unreadable-video", video: "*" }],
  ["A worker dies", { on: "job", kind: "kill-worker", instance: 1 }],
  ["A job fails", { on: "job", kind: "fail-job", code: "INTERNAL", message: "out of luck" }],
];

export default function Control() {
  const project = useStore(currentPlace)?.project ?? "my-project";
  return html`
    <${Page} title="Control">
      <div class="columns">
        <${PaceCard} key="server" title="Pace of the server" id="server-pace" path="/_emulator/pace" />
        <${PaceCard} key=${project} title="Pace of ${project}" id="project-pace" path="/_emulator/projects/${encodeURIComponent(project)}/pace" />
      </div>
      <${FaultCard} />
      <div class="columns"><${SnapshotCard} /><${ResetCard} project=${project} /></div>
    <//>
  `;
}

/** Runs what changes the server, and holds what came of it. */
function useAction() {
  const [state, setState] = useState({});
  const run = async (act, done) => {
    setState({ busy: true });
    try {
      await act();
      setState({ done });
      announce(done);
      return true;
    } catch (problem) {
      setState({ problem });
      return false;
    }
  };
  return { ...state, run };
}

function Outcome({ action }) {
  if (action.problem) return html`<${ProblemBox} problem=${action.problem} />`;
  return action.done ? html`<${Notice} colour="green" icon="tick"><p>${action.done}</p><//>` : null;
}

function PaceCard({ title, id, path }) {
  const { data, error, refresh } = useResource((signal) => get(path, { signal }), [path]);
  const [text, setText] = useState("");
  const action = useAction();
  const submit = async (event) => {
    event.preventDefault();
    if (await action.run(() => call("PUT", path, { body: { pace: text.trim() } }), "The pace is set.")) refresh();
  };
  const clear = async () => {
    if (await action.run(() => call("DELETE", path), "The pace is as the settings say.")) refresh();
  };
  return html`
    <section class="card" aria-labelledby="${id}-title">
      <h2 id="${id}-title">${title}</h2>
      ${error && html`<${ProblemBox} problem=${error} />`}
      <p>Now: <code>${data?.pace ?? "…"}</code></p>
      <form class="filter-line" onSubmit=${submit}>
        <label class="unseen" for=${id}>New pace</label>
        <input ...${fieldProps(id)} value=${text} list="${id}-list" placeholder="immediate" required autocomplete="off" spellcheck="false" onInput=${(event) => setText(event.target.value)} />
        <datalist id="${id}-list">${PACES.map((pace) => html`<option key=${pace} value=${pace} />`)}</datalist>
        <button class="button">Set</button><${Button} onClick=${clear}>Unset<//>
      </form>
      <p class="hint">It holds for jobs that are created from now on: how long they stay in which state.</p>
      <${Outcome} action=${action} />
    </section>
  `;
}

function FaultCard() {
  const { data, error, loading, refresh } = useResource((signal) => get("/_emulator/faults", { signal }), []);
  const [text, setText] = useState(JSON.stringify(FAULTS[0][1]));
  const action = useAction();
  const add = async (event) => {
    event.preventDefault();
    const act = () => {
      try {
        return call("POST", "/_emulator/faults", { body: JSON.parse(text) });
      } catch (failure) {
        throw new Error(`This is no JSON object: ${failure.message}`);
      }
    };
    if (await action.run(act, "The fault is set.")) refresh();
  };
  const drop = async (id) => {
    if (await action.run(() => call("DELETE", `/_emulator/faults${id ? `/${id}` : ""}`), id ? `Fault ${id} is gone.` : "All faults are gone.")) refresh();
  };
  const faults = data?.faults ?? [];
  return html`
    <section class="card" aria-labelledby="faults-title">
      <div class="page-head"><h2 id="faults-title">Faults</h2><div class="actions"><${Button} kind="small" onClick=${refresh}>Refresh<//><${Button} kind="small" disabled=${!faults.length} onClick=${() => drop("")}>Remove all<//></div></div>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!data && loading && html`<${Loading} />`}
      ${data && !faults.length && html`<p class="quiet">No call and no job fails on purpose.</p>`}
      ${faults.length > 0 && html`
        <div class="scroll" tabindex="0" role="region" aria-label="Faults"><table>
          <thead><tr><th scope="col">Fault</th><th scope="col" class="number">Matched</th><th scope="col" class="number">Used</th><th scope="col" class="number">Fired</th><th scope="col"><span class="unseen">Remove</span></th></tr></thead>
          <tbody>${faults.map(({ id, matched, used, fired, ...plan }) => html`<tr key=${id}><td><code>${JSON.stringify(plan)}</code></td><td class="number">${matched}</td><td class="number">${used}</td><td class="number">${fired}</td><td><${Button} kind="small" aria-label="Remove fault ${id}" onClick=${() => drop(id)}>Remove<//></td></tr>`)}</tbody>
        </table></div>
      `}
      <form class="add-fault" onSubmit=${add}>
        <${Field} id="fault-kind" label="Begin with"><select ...${fieldProps("fault-kind")} onChange=${(event) => setText(JSON.stringify(FAULTS[event.target.value][1]))}>${FAULTS.map(([words], at) => html`<option key=${at} value=${at}>${words}</option>`)}</select><//>
        <${Field} id="fault" label="New fault"><textarea ...${fieldProps("fault")} rows="2" class="mono" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)}></textarea><//>
        <button class="button">Add</button>
      </form>
      <${Outcome} action=${action} />
    </section>
  `;
}

function SnapshotCard() {
  const action = useAction();
  const [file, setFile] = useState(null);
  const load = async () => {
    await call("PUT", "/_emulator/snapshot", { body: file });
    announce("The snapshot is loaded");
    tellChange();
  };
  return html`
    <section class="card" aria-labelledby="snapshot-title">
      <h2 id="snapshot-title">Snapshot</h2>
      <p>Jobs, models, buckets, paces and faults as one file.</p>
      <div class="actions">
        <${LinkButton} download href="/_emulator/snapshot">Download<//>
        <label class="button upload">Load a snapshot<input type="file" class="unseen" accept=".zip" onChange=${(event) => { setFile(event.target.files[0] ?? null); event.target.value = ""; }} /></label>
      </div>
      ${file && html`<${Confirm} title="Load this snapshot?" verb="Replace everything" run=${load} onClose=${() => setFile(null)}><p><bdi>${file.name}</bdi> takes the place of all jobs, models and buckets.</p><//>`}
      <${Outcome} action=${action} />
    </section>
  `;
}

function ResetCard({ project }) {
  const [scope, setScope] = useState("project");
  const [to, setTo] = useState("seed");
  const [buckets, setBuckets] = useState(true);
  const [asks, setAsks] = useState(false);
  const everything = scope === "all";
  const run = async () => {
    await call("POST", "/_emulator/reset", { body: { to, ...(everything ? (buckets ? {} : { buckets: false }) : { project }) } });
    announce("The reset is done");
    tellChange();
  };
  return html`
    <section class="card" aria-labelledby="reset-title">
      <h2 id="reset-title">Reset</h2>
      <div class="row">
        <${Field} id="reset-scope" label="What"><select ...${fieldProps("reset-scope")} value=${scope} onChange=${(event) => setScope(event.target.value)}><option value="project">Project ${project}</option><option value="all">Everything</option></select><//>
        <${Field} id="reset-to" label="Back to"><select ...${fieldProps("reset-to")} value=${to} onChange=${(event) => setTo(event.target.value)}><option value="seed">The seed, if there is one</option><option value="empty">Nothing</option></select><//>
      </div>
      ${everything && html`<label><input type="checkbox" checked=${buckets} onChange=${(event) => setBuckets(event.target.checked)} /> Empty the buckets in the data folder</label>`}
      <div class="actions"><${Button} kind="danger" onClick=${() => setAsks(true)}>Reset<//></div>
      ${asks && html`
        <${Confirm} title=${everything ? "Reset everything?" : `Reset ${project}?`} verb="Reset" run=${run} onClose=${() => setAsks(false)}>
          <p>Jobs, models of your own, paces, faults and the journal go${everything && buckets ? ", and all objects" : ""}. Unfinished jobs are cancelled.</p>
        <//>
      `}
    </section>
  `;
}
