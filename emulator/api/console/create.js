/** The page "New batch prediction", with the labels of the documentation. */
import { html, useEffect, useMemo, useRef, useState } from "./third_party/htm-preact.js";
import { call, get, useResource } from "./api.js";
import { idOf, objectiveText, plural } from "./format.js";
import { isVideo, mimeTypeOf, ObjectDialog, upload, UPLOADS } from "./objects.js";
import { EVERYWHERE } from "./place.js";
import { bodyOf, curlOf, emptyForm, formOf, headersOf, mistakesOf, mistakesOfAnswer, objectiveOf, parametersOf, parentOf, pythonOf } from "./request.js";
import { jobPath, navigate, placePath } from "./router.js";
import { announce, Button, Code, Field, fieldProps, LinkButton, Loading, Notice, Page, ProblemBox, Tabs } from "./ui.js";

const PACES = ["real", "immediate", "steps", "pending=2s,running=10s", "running=3"];

async function loadChoices(place, like, signal) {
  const [{ models = [] }, info, similar] = await Promise.all([
    get(`/v1/${parentOf(place)}/models`, { signal, query: { pageSize: 1000 } }),
    get("/_emulator/info", { signal }),
    like ? get(`/_emulator/jobs/${encodeURIComponent(like)}/explain`, { signal }) : null,
  ]);
  const canned = new Set(info.models.filter((model) => model.canned).map((model) => model.id));
  return { models: models.map((model) => ({ ...model, id: idOf(model.name), objective: objectiveOf(model), canned: canned.has(idOf(model.name)) || model.labels?.["emulator-canned"] === "true" })), similar };
}

export default function Create({ project, location: where, query }) {
  const place = { project, location: where === EVERYWHERE ? "us-central1" : where };
  const { data, error, loading } = useResource((signal) => loadChoices(place, query.like, signal), [project, where, query.like]);
  const list = placePath({ project, location: where }, "batch-predictions");
  const crumbs = html`<a href=${list}>Batch predictions</a>`;
  return html`
    <${Page} title="New batch prediction" crumbs=${crumbs}>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!data && loading && html`<${Loading} />`}
      ${data && html`<${Form} place=${place} models=${data.models} first=${firstForm(data, query)} cancel=${list} />`}
    <//>
  `;
}

function firstForm({ models, similar }, { model, source }) {
  if (similar) return formOf(similar.job);
  return { ...emptyForm(), model: models.some(({ id }) => id === model) ? model : models.length === 1 ? models[0].id : "", source: source ?? "" };
}

function Form({ place, models, first, cancel }) {
  const [form, setForm] = useState(first);
  const [mistakes, setMistakes] = useState({});
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const [attempts, setAttempts] = useState(0);
  const element = useRef(null);
  const model = models.find(({ id }) => id === form.model);
  const objective = model?.objective ?? "";
  const set = (name, value) => {
    setForm((old) => ({ ...old, [name]: value }));
    setMistakes(({ [name]: _, ...others }) => others);
  };
  // After the drawing, so that the messages are there.
  useEffect(() => void (Object.keys(mistakes).length && element.current.querySelector("[aria-invalid=true]")?.focus()), [attempts]);

  const submit = async (event) => {
    event.preventDefault();
    const found = mistakesOf(form, objective);
    setMistakes(found);
    setProblem(null);
    setBusy(true);
    if (!Object.keys(found).length && (await send())) return;
    setBusy(false);
    setAttempts(attempts + 1);
  };
  const send = async () => {
    try {
      const job = await call("POST", `/v1/${parentOf(place)}/batchPredictionJobs`, { body: bodyOf(form, place, objective), headers: headersOf(form) });
      announce("The batch prediction was created");
      navigate(jobPath(place, idOf(job.name)));
      return true;
    } catch (error) {
      const answer = mistakesOfAnswer(error);
      setMistakes(answer.mistakes);
      setProblem(answer.rest ? { ...error, message: answer.rest } : null);
      return false;
    }
  };
  const field = (name) => ({ value: form[name], ...fieldProps(name, { error: mistakes[name], hint: HINTS[name] }), onInput: (event) => set(name, event.target.value) });
  const wrap = (name, label, input, options = {}) => html`<${Field} id=${name} label=${label} hint=${HINTS[name]} error=${mistakes[name]} ...${options}>${input}<//>`;
  return html`
    <div class="form-page">
      <form class="card" noValidate ref=${element} onSubmit=${submit}>
        ${problem && html`<${ProblemBox} title="The job was not created" problem=${problem} />`}
        ${wrap("name", "Name", html`<input ...${field("name")} autocomplete="off" />`)}
        <div class="row">
          ${wrap("model", "Model name", html`<${ModelSelect} models=${models} field=${field("model")} />`)}
          ${wrap("version", "Version", html`<${VersionSelect} model=${model} field=${field("version")} />`)}
        </div>
        ${!models.length && html`<${Notice} colour="amber"><p>There is no model in this location. Put a folder with a <code>model.toml</code> into the data folder's <code>models</code>, or upload one through the API.</p><//>`}
        <${Source} field=${field("source")} mistake=${mistakes.source} value=${form.source} onChange=${(text) => set("source", text)} />
        <${Destination} field=${field("destination")} mistake=${mistakes.destination} onChange=${(text) => set("destination", text)} />
        ${wrap("format", "Output format", html`<input ...${fieldProps("format", { hint: HINTS.format })} value="JSON Lines" readonly />`)}
        ${objective && html`<${Parameters} objective=${objective} form=${form} mistakes=${mistakes} onChange=${(name, value) => { set("parameters", { ...form.parameters, [name]: value }); setMistakes(({ [name]: _, ...others }) => others); }} />`}
        <details open=${["labels", "batchSize", "pace", "faults"].some((name) => form[name] || mistakes[name])}>
          <summary>More</summary>
          <div class="row">
            ${wrap("labels", "Labels", html`<textarea ...${field("labels")} rows="2"></textarea>`, { optional: true })}
            ${wrap("batchSize", "Batch size", html`<input ...${field("batchSize")} inputmode="numeric" />`, { optional: true })}
            ${wrap("pace", "Pace", html`<input ...${field("pace")} list="paces" autocomplete="off" />`, { optional: true })}
            ${wrap("faults", "Faults", html`<textarea ...${field("faults")} rows="2" spellcheck="false"></textarea>`, { optional: true })}
          </div>
          <datalist id="paces">${PACES.map((pace) => html`<option key=${pace} value=${pace} />`)}</datalist>
        </details>
        <div class="actions"><button class="button primary" disabled=${busy}>Create</button><${LinkButton} href=${cancel}>Cancel<//></div>
      </form>
      <${Equivalent} form=${form} place=${place} objective=${objective} />
    </div>
  `;
}

const HINTS = {
  source: "The JSON Lines file with the videos, as in gs://sourcebucket/input.jsonl. One path a line; * stands for any characters.",
  destination: "Each job makes a folder of its own there.",
  format: "Determined by the model's objective.",
  labels: "One name=value a line.",
  pace: "How long the job stays in which state.",
  faults: "A JSON list of failures of this job.",
};

function ModelSelect({ models, field }) {
  const groups = useMemo(() => Map.groupBy?.(models, (model) => model.objective) ?? models.reduce((all, model) => all.set(model.objective, [...(all.get(model.objective) ?? []), model]), new Map()), [models]);
  return html`
    <select ...${field}>
      <option value="">Select a model</option>
      ${[...groups].map(([objective, members]) => html`
        <optgroup key=${objective} label=${objectiveText(objective) || "Other"}>
          ${members.map((model) => html`<option key=${model.id} value=${model.id}>${model.displayName}${model.displayName === model.id ? "" : ` (${model.id})`}${model.canned ? " – canned" : ""}</option>`)}
        </optgroup>
      `)}
    </select>
  `;
}

function VersionSelect({ model, field }) {
  const load = async (signal) => (model ? (await get(`/v1/${model.name.split("@")[0]}:listVersions`, { signal })).models ?? [] : []);
  const { data: versions = [] } = useResource(load, [model?.name]);
  const aliases = versions.flatMap((version) => version.versionAliases ?? []).filter((alias) => alias !== "default");
  return html`
    <select ...${field}>
      <option value="">Default</option>
      ${[...versions.map((version) => version.versionId), ...aliases].map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>
  `;
}

function Source({ field, mistake, value, onChange }) {
  const [browses, setBrowses] = useState(false);
  const [note, setNote] = useState(null);
  const [over, setOver] = useState(false);
  const add = (path) => onChange([value.trim(), path].filter(Boolean).join("\n"));
  const take = async (files) => {
    setOver(false);
    try {
      setNote({ text: "Uploading …" });
      const path = await uploadAll([...files], (text) => setNote({ text }));
      add(path.path);
      setNote({ text: path.text, colour: "green" });
    } catch (error) {
      setNote({ problem: error });
    }
  };
  const check = async () => {
    setNote({ text: "Reading the input …" });
    try {
      setNote({ found: await call("POST", "/_emulator/check-input", { body: { uris: value.split("\n").map((line) => line.trim()).filter(Boolean) } }) });
    } catch (error) {
      setNote({ problem: error });
    }
  };
  return html`
    <div class="drop ${over ? "over" : ""}" onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}
      onDrop=${(event) => { event.preventDefault(); take(event.dataTransfer.files); }}>
      <${Field} id="source" label="Source path" hint=${HINTS.source} error=${mistake}>
        <textarea ...${field} class="paths" rows="1" spellcheck="false" placeholder="gs://"></textarea>
      <//>
      <div class="actions">
        <${Button} kind="small" icon="folder" aria-label="Browse for the source path" onClick=${() => setBrowses(true)}>Browse<//>
        <label class="button small upload">Upload files<input type="file" class="unseen" multiple accept=".jsonl,.json,.txt,video/*" onChange=${(event) => { take(event.target.files); event.target.value = ""; }} /></label>
        <${Button} kind="small" icon="tick" disabled=${!value.trim()} onClick=${check}>Check input<//>
      </div>
      <p class="hint">Or drop files here: a JSON Lines file, or videos, for which the input file is written.</p>
      <div role="status" class="notes">${note && html`<${SourceNote} note=${note} />`}</div>
    </div>
    ${browses && html`<${ObjectDialog} onPick=${(path) => { setBrowses(false); add(path); }} onClose=${() => setBrowses(false)} />`}
  `;
}

function SourceNote({ note: { text, colour, problem, found } }) {
  if (problem) return html`<${ProblemBox} problem=${problem} />`;
  if (!found) return html`<${Notice} colour=${colour} icon=${colour ? "tick" : "clock"}><p>${text}</p><//>`;
  const { instances, videos, problemCount, problems, missingVideos } = found;
  const fine = !problemCount && !missingVideos.length;
  return html`
    <${Notice} colour=${fine ? "green" : "amber"} icon=${fine ? "tick" : "about"}>
      <p>${plural(instances, "instance")} of ${plural(videos, "video")}${problemCount ? `, ${plural(problemCount, "line")} cannot be used` : ""}.</p>
      ${!fine && html`<ul class="plain">
        ${problems.map(({ line, message }) => html`<li key=${line} class="prose">${line}: ${message}</li>`)}
        ${missingVideos.map((uri) => html`<li key=${uri}><code>${uri}</code> does not exist.</li>`)}
      </ul>`}
    <//>
  `;
}

/** Store files; where the input lies then. Videos get an input file with one segment each. */
async function uploadAll(files, tell) {
  if (!files.length) throw new Error("Nothing was dropped but text; drop files.");
  const folder = `${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;
  const videos = files.filter((file) => isVideo(file.name));
  if (videos.length && videos.length < files.length) throw new Error("Drop either videos or one JSON Lines file, not both.");
  for (const [at, file] of files.entries()) {
    tell(`Uploading ${at + 1} of ${files.length}: ${file.name}`);
    await upload(UPLOADS, `${folder}/${file.name}`, file);
  }
  const uris = files.map((file) => `gs://${UPLOADS}/${folder}/${file.name}`);
  if (!videos.length) return { path: uris.join("\n"), text: `${plural(files.length, "file")} uploaded.` };
  const rows = uris.map((content) => JSON.stringify({ content, mimeType: mimeTypeOf(content), timeSegmentStart: "0s", timeSegmentEnd: "Infinity" }));
  await upload(UPLOADS, `${folder}/input.jsonl`, new Blob([`${rows.join("\n")}\n`]));
  return { path: `gs://${UPLOADS}/${folder}/input.jsonl`, text: `${plural(videos.length, "video")} uploaded, and an input file with one segment each written.` };
}

function Destination({ field, mistake, onChange }) {
  const [browses, setBrowses] = useState(false);
  return html`
      <${Field} id="destination" label="Destination path" hint=${HINTS.destination} error=${mistake}>
        <div class="filter-line"><input ...${field} placeholder="gs://" spellcheck="false" autocomplete="off" /><${Button} icon="folder" aria-label="Browse for the destination path" onClick=${() => setBrowses(true)}>Browse<//></div>
      <//>
    ${browses && html`<${ObjectDialog} folders onPick=${(path) => { setBrowses(false); onChange(path); }} onClose=${() => setBrowses(false)} />`}
  `;
}

function Parameters({ objective, form, mistakes, onChange }) {
  return html`
    <fieldset>
      <legend>Model parameters</legend>
      <div class="row">
        ${parametersOf(objective).map(([name, label, { type, default: preset, ...limits }]) => {
          const props = { ...fieldProps(name, { error: mistakes[name] }), value: form.parameters[name] ?? "", onInput: (event) => onChange(name, event.target.value) };
          const input = type === "choice"
            ? html`<select ...${props}><option value="">Default (${preset === "true" ? "on" : "off"})</option><option value="true">On</option><option value="false">Off</option></select>`
            : html`<input ...${props} type="number" ...${limits} placeholder=${preset} />`;
          return html`<${Field} key=${name} id=${name} label=${label} error=${mistakes[name]}>${input}<//>`;
        })}
      </div>
    </fieldset>
  `;
}

/** The request that Create sends, for other tools. */
function Equivalent({ form, place, objective }) {
  const body = bodyOf(form, place, objective);
  let headers = {};
  try {
    headers = headersOf(form);
  } catch {
    // The form says what is wrong with it.
  }
  const tabs = [
    ["REST", html`<${Code} label="REST body" text=${`POST /v1/${parentOf(place)}/batchPredictionJobs\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\n`).join("")}\n${JSON.stringify(body, null, 2)}`} />`],
    ["curl", html`<${Code} label="curl command" text=${curlOf(location.origin, place, body, headers)} />`],
    ["Python", html`<${Code} label="Python program" text=${pythonOf(location.origin, place, body)} />`],
  ];
  return html`<section class="card equivalent" aria-labelledby="equivalent"><h2 id="equivalent">Equivalent</h2><${Tabs} id="equivalent-tabs" label="Equivalent requests" tabs=${tabs} /></section>`;
}
