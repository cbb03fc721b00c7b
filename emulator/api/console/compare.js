/** A job beside what is expected of it: what to compare with, and the lines that differ. */
import { html, useEffect, useState } from "./third_party/htm-preact.js";
import { get, useResource } from "./api.js";
import { countsText, otherText } from "./differences.js";
import { idOf, plural } from "./format.js";
import { ObjectDialog, upload, UPLOADS } from "./objects.js";
import { jobPath, navigate, withQuery } from "./router.js";
import { timeText } from "./times.js";
import { Button, Field, fieldProps, Icon, LinkButton, Loading, Notice, ProblemBox } from "./ui.js";

const KINDS = [
  ["truth", "The truth", "What the video factory drew. The videos of the demo and of “Run the example” have it."],
  ["job", "Another job", "Its predictions for the same segments of the same videos."],
  ["file", "An expected file", "JSON Lines as a job writes them, or as a canned model reads them."],
];
const PAGES = 1000;
const THRESHOLDS = "0.1:0.9:0.1";

const comparePath = (job, rest = "") => `/_emulator/jobs/${encodeURIComponent(job)}${rest}/compare`;

/** One result beside what is expected of it. */
export const compareLine = (job, number, query, signal) => get(comparePath(job, `/results/${number}`), { signal, query: { ...query, thresholds: THRESHOLDS } });

/** The next line with a difference behind `number`, or before it, as the page tells it. */
export async function lineBeside(job, number, query, step) {
  const size = 100;
  for (let page = Math.max(1, Math.ceil((number + step) / size)), turn = 0; page >= 1 && turn < PAGES; page += step, turn++) {
    const { lines, pages } = await get(comparePath(job), { query: { ...query, page } });
    const differing = lines.filter((line) => (line.missed || line.extra) && (line.number - number) * step > 0);
    if (differing.length) return step > 0 ? differing[0] : differing.at(-1);
    if (page >= pages && step > 0) break;
  }
  return null;
}

/** The tab of a job. */
export default function Compare({ job, place, query = {} }) {
  const id = idOf(job.name);
  const { page = "", only = "", ...asked } = query;
  const go = (changes) => navigate(withQuery(jobPath(place, id, "compare"), { ...asked, only, ...changes }));
  return html`
    <${Question} key=${asked.with} place=${place} job=${job} query=${asked} onAsk=${(next) => go({ ...next, page: "" })} />
    ${asked.with && html`<${Outcome} place=${place} job=${job} query=${asked} page=${page} only=${only} go=${go} />`}
  `;
}

const kindOf = (other) => (!other || other === "truth" ? "truth" : other.startsWith("gs://") ? "file" : "job");

/** What to compare with. `onAsk` is called with the parameters. */
export function Question({ place, job, query, onAsk }) {
  const [kind, setKind] = useState(kindOf(query.with));
  const [other, setOther] = useState(kindOf(query.with) === "truth" ? "" : query.with);
  const [within, setWithin] = useState(query.within || "0.1");
  const [iou, setIou] = useState(query.iou || "0.8");
  const [least, setLeast] = useState(query.min || "");
  const [mistake, setMistake] = useState("");
  useEffect(() => setLeast(query.min || ""), [query.min]);
  const submit = (event) => {
    event.preventDefault();
    const wanted = kind === "truth" ? "truth" : other.trim();
    if (!wanted) return setMistake(kind === "job" ? "Pick a job or enter its id." : "Enter a gs:// path, or upload a file.");
    if ((kind === "file") !== wanted.startsWith("gs://") && kind !== "truth") return setMistake(kind === "job" ? "This is a path; choose “An expected file” for it." : "The path must begin with gs://.");
    setMistake("");
    return onAsk({ with: wanted, within, iou, min: least });
  };
  const number = (id, label, value, set, hint) => html`
    <${Field} id=${id} label=${label} hint=${hint}><input ...${fieldProps(id, { hint })} type="number" min="0" max=${id === "within" ? 3600 : 1} step="any" value=${value} onInput=${(event) => set(event.target.value)} /><//>
  `;
  return html`
    <form class="card compare-form" aria-label="Compare" onSubmit=${submit}>
      <fieldset><legend>Compare with</legend>
        ${KINDS.map(([name, text, hint]) => html`
          <label key=${name} class="choice"><input type="radio" name="kind" checked=${kind === name} onChange=${() => { setKind(name); setMistake(""); }} /><span><strong>${text}</strong> <span class="quiet">${hint}</span></span></label>
        `)}
      </fieldset>
      ${kind === "job" && html`<${OtherJob} place=${place} job=${job} value=${other} mistake=${mistake} onChange=${setOther} />`}
      ${kind === "file" && html`<${ExpectedFile} value=${other} mistake=${mistake} onChange=${setOther} onMistake=${setMistake} />`}
      <div class="compare-numbers">
        ${number("within", "Times within", within, setWithin, "seconds")}
        ${number("iou", "Least IoU", iou, setIou, "of boxes, 0 to 1")}
        ${number("least", "Least confidence", least, setLeast, "of predictions that count")}
        <button class="button primary">Compare</button>
      </div>
    </form>
  `;
}

function OtherJob({ place, job, value, mistake, onChange }) {
  const { project, location } = place;
  const load = (signal) => get(`/v1/projects/${encodeURIComponent(project)}/locations/${encodeURIComponent(location)}/batchPredictionJobs`, { signal, query: { pageSize: 50 } });
  const { data } = useResource(load, [project, location]);
  const others = (data?.batchPredictionJobs ?? []).filter((one) => one.name !== job?.name && (!job || one.modelObjective === job.modelObjective));
  return html`
    <${Field} id="other" label="Job" error=${mistake} hint="Its id, or its resource name.">
      <input ...${fieldProps("other", { hint: true, error: mistake })} list="other-jobs" value=${value} autocomplete="off" spellcheck="false" onInput=${(event) => onChange(event.target.value)} />
      <datalist id="other-jobs">${others.map((one) => html`<option key=${one.name} value=${idOf(one.name)}>${one.displayName}</option>`)}</datalist>
    <//>
  `;
}

function ExpectedFile({ value, mistake, onChange, onMistake }) {
  const [browsing, setBrowsing] = useState(false);
  const take = async ([file]) => {
    if (!file) return;
    try {
      const name = `${Date.now().toString(36)}/${file.name}`;
      await upload(UPLOADS, name, file);
      onChange(`gs://${UPLOADS}/${name}`);
      onMistake("");
    } catch (error) {
      onMistake(error.message);
    }
  };
  return html`
    <${Field} id="other" label="Expected file" error=${mistake}>
      <input ...${fieldProps("other", { error: mistake })} value=${value} placeholder="gs://bucket/expected.jsonl" autocomplete="off" spellcheck="false" onInput=${(event) => onChange(event.target.value)} />
      <div class="actions">
        <${Button} kind="small" icon="folder" onClick=${() => setBrowsing(true)} aria-label="Browse for the expected file">Browse<//>
        <label class="button small upload">Upload<input type="file" class="unseen" accept=".jsonl,.json,.txt" onChange=${(event) => { take(event.target.files); event.target.value = ""; }} /></label>
      </div>
    <//>
    ${browsing && html`<${ObjectDialog} onPick=${(path) => { onChange(path); setBrowsing(false); }} onClose=${() => setBrowsing(false)} />`}
  `;
}

function Outcome({ place, job, query, page, only, go }) {
  const id = idOf(job.name);
  const { data, error, loading } = useResource((signal) => get(comparePath(id), { signal, query: { ...query, page, thresholds: THRESHOLDS } }), [id, JSON.stringify(query), page, job.state]);
  if (error) return html`<${ProblemBox} problem=${error} />`;
  if (!data) return loading ? html`<${Loading} what="Comparing" />` : null;
  const differs = (line) => line.problem || line.missed || line.extra;
  const lines = only ? data.lines.filter(differs) : data.lines;
  const first = data.lines.find((line) => line.missed || line.extra);
  const path = (line) => withQuery(jobPath(place, id, "results", String(line.number)), { ...query, t: line.first === undefined ? "" : timeText(line.first) });
  const turn = (number, text) => number >= 1 && number <= data.pages && html`<${Button} kind="small" onClick=${() => go({ page: number > 1 ? number : "" })}>${text}<//>`;
  return html`
    ${data.notes.map((note) => html`<${Notice} key=${note} colour="amber"><p class="prose">${note}</p><//>`)}
    <div class="compare-head">
      <p role="status"><strong>${countsText(data)}</strong>${data.pages > 1 && ` on page ${data.page} of ${data.pages}`} <span class="quiet">compared with <bdi>${otherText(query.with)}</bdi></span></p>
      <label class="choice"><input type="checkbox" checked=${only !== ""} onChange=${(event) => go({ only: event.target.checked ? "1" : "", page })} />Only differences</label>
      ${first && html`<${LinkButton} kind="primary" href=${path(first)}>First difference<//>`}
    </div>
    <${Thresholds} rows=${data.thresholds} chosen=${Number(query.min || 0)} onChoose=${(min) => go({ min: min.toFixed(2), page })} open />
    ${lines.length ? html`<${Lines} lines=${lines} path=${path} />` : html`<${Notice} icon="tick"><p>Everything is as expected.</p><//>`}
    ${data.pages > 1 && html`<nav class="pages" aria-label="Pages"><span class="quiet">${plural(data.total, "line")}</span>${turn(data.page - 1, "Previous page")}${turn(data.page + 1, "Next page")}</nav>`}
  `;
}

/** How good the predictions are from each confidence on; a click on one chooses it. */
export function Thresholds({ rows, chosen, onChoose, open = false }) {
  const best = rows.reduce((one, other) => (other.f1 >= one.f1 ? other : one));
  const share = (value) => html`<td class="number">${value.toFixed(2)}</td>`;
  return html`
    <details class="thresholds" open=${open}>
      <summary>Thresholds</summary>
      <div class="scroll"><table>
        <caption class="unseen">Predictions from each confidence on</caption>
        <thead><tr><th scope="col">From</th><th scope="col" class="number">Found</th><th scope="col" class="number">Precision</th><th scope="col" class="number">Recall</th><th scope="col" class="number">F1</th></tr></thead>
        <tbody>${rows.map((row) => html`
          <tr key=${row.threshold}>
            <th scope="row"><${Button} kind="small" aria-pressed=${String(Math.abs(row.threshold - chosen) < 1e-9)} onClick=${() => onChoose(row.threshold)}>${row.threshold.toFixed(2)}<//>${row === best && row.f1 > 0 && html` <span class="quiet">best</span>`}</th>
            <td class="number">${row.matched + row.extra}</td>${share(row.precision)}${share(row.recall)}${share(row.f1)}
          </tr>
        `)}</tbody>
      </table></div>
    </details>
  `;
}

function Lines({ lines, path }) {
  const count = (line, name) => html`<td class="number ${line[name] && name !== "matched" ? "differs" : ""}" data-label=${name[0].toUpperCase() + name.slice(1)}>${line[name]}</td>`;
  return html`
    <div class="scroll"><table class="cards results">
      <caption class="unseen">Results beside what is expected</caption>
      <thead><tr><th scope="col" class="number">Line</th><th scope="col">Video</th><th scope="col" class="number">Matched</th><th scope="col" class="number">Missed</th><th scope="col" class="number">Extra</th><th scope="col">First difference</th></tr></thead>
      <tbody>${lines.map((line) => html`
        <tr key=${line.number}>
          <td class="number" data-label="Line">${line.number}</td>
          <td class="name"><a href=${path(line)} title=${line.video}><bdi>${line.video.slice(line.video.lastIndexOf("/") + 1) || "no video"}</bdi></a></td>
          ${line.problem
            ? html`<td colspan="4" class="prose" data-label="Problem"><${Icon} name="about" /> ${line.problem}</td>`
            : html`${count(line, "matched")}${count(line, "missed")}${count(line, "extra")}<td data-label="First">${line.first === undefined ? html`<span class="quiet"><${Icon} name="tick" /> none</span>` : `at ${timeText(line.first)}`}</td>`}
        </tr>
      `)}</tbody>
    </table></div>
  `;
}
