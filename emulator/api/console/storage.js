/** The browser of buckets and objects. */
import { html, useState } from "./third_party/htm-preact.js";
import { get, useResource } from "./api.js";
import { byteSize } from "./format.js";
import { createBucket, downloadPath, isVideo, listBuckets, listObjects, remove, upload } from "./objects.js";
import { currentPlace } from "./place.js";
import { placePath, storagePath, withQuery } from "./router.js";
import { announce, Button, Confirm, CopyButton, Dialog, Empty, Field, fieldProps, Icon, LinkButton, Loading, Notice, Page, ProblemBox, Time } from "./ui.js";

const PREVIEW_BYTES = 64 * 1024;
const TEXT = /\.(jsonl?|txt|csv|toml|ya?ml|md|log)$/i;

export default function Storage({ bucket = "", prefix = "", query }) {
  return bucket ? html`<${Folder} key=${`${bucket}/${prefix}`} bucket=${bucket} prefix=${prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix} page=${query.page ?? ""} />` : html`<${Buckets} />`;
}

function Buckets() {
  const { data, error, loading, refresh } = useResource(listBuckets, []);
  const [asks, setAsks] = useState(false);
  return html`
    <${Page} title="Storage" actions=${html`<${Button} kind="primary" icon="plus" onClick=${() => setAsks(true)}>Create bucket<//>`}>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!data && loading && html`<${Loading} what="Loading buckets" />`}
      ${data && !data.length && html`<${Empty} title="No buckets yet."><p>The first upload or the first job makes one. In the data folder a bucket is a folder in <code>buckets</code>.</p><//>`}
      ${data?.length > 0 && html`
        <div class="scroll"><table>
          <caption class="unseen">Buckets</caption>
          <thead><tr><th scope="col">Name</th><th scope="col">Created</th></tr></thead>
          <tbody>${data.map((one) => html`<tr key=${one.name}><td><${Icon} name="bucket" /> <a href=${storagePath(one.name)}>${one.name}</a></td><td class="nowrap"><${Time} value=${one.timeCreated} /></td></tr>`)}</tbody>
        </table></div>
      `}
      ${asks && html`<${NewBucket} onClose=${() => setAsks(false)} onDone=${refresh} />`}
    <//>
  `;
}

function NewBucket({ onClose, onDone }) {
  const [name, setName] = useState("");
  const [problem, setProblem] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await createBucket(name.trim());
      onClose();
      onDone();
    } catch (error) {
      setProblem(error);
    }
  };
  const actions = html`<${Button} onClick=${onClose}>Cancel<//><button class="button primary" form="bucket-form">Create</button>`;
  return html`
    <${Dialog} title="Create bucket" onClose=${onClose} actions=${actions}>
      <form id="bucket-form" onSubmit=${submit}><${Field} id="bucket-name" label="Name" error=${problem?.message}>
        <input ...${fieldProps("bucket-name", { error: problem })} value=${name} required autocomplete="off" spellcheck="false" onInput=${(event) => setName(event.target.value)} />
      <//></form>
    <//>
  `;
}

function Folder({ bucket, prefix, page }) {
  const { data, error, loading, refresh } = useResource((signal) => listObjects(bucket, prefix, page, signal), [bucket, prefix, page]);
  const [over, setOver] = useState(false);
  const [note, setNote] = useState("");
  const [problem, setProblem] = useState(null);
  const [asks, setAsks] = useState(null);
  const path = `gs://${bucket}/${prefix}`;
  const take = async (files) => {
    setOver(false);
    setProblem(null);
    try {
      for (const [at, file] of [...files].entries()) {
        setNote(`Uploading ${at + 1} of ${files.length}: ${file.name}`);
        await upload(bucket, prefix + file.name, file);
      }
      announce("Uploaded");
    } catch (failure) {
      setProblem(failure);
    }
    setNote("");
    refresh();
  };
  const actions = html`
    <label class="button primary upload">Upload files<input type="file" class="unseen" multiple onChange=${(event) => { take([...event.target.files]); event.target.value = ""; }} /></label>
    <${CopyButton} text=${path} label="Copy path" />
  `;
  return html`
    <${Page} title=${prefix ? prefix.split("/").at(-2) : bucket} documentTitle=${path} crumbs=${html`<${Crumbs} bucket=${bucket} prefix=${prefix} />`} actions=${actions}>
      <div class="drop flat ${over ? "over" : ""}" onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}
        onDrop=${(event) => { event.preventDefault(); take([...event.dataTransfer.files]); }}>
        <div role="status" class="notes">${note && html`<${Notice} icon="clock"><p>${note}</p><//>`}</div>
        ${(problem || error) && html`<${ProblemBox} problem=${problem ?? error} />`}
        ${!data && loading && html`<${Loading} what="Loading objects" />`}
        ${data && (data.folders.length + data.objects.length === 0
          ? html`<${Empty} title="Nothing in ${path}"><p class="quiet">Drop files here to upload them.</p><//>`
          : html`<${Objects} bucket=${bucket} prefix=${prefix} data=${data} onPreview=${(item) => setAsks({ item })} onDelete=${(item) => setAsks({ item, deletes: true })} />`)}
        ${data?.next && html`<nav class="pages" aria-label="Pages"><${LinkButton} href=${withQuery(storagePath(bucket, prefix), { page: data.next })}>Next<//></nav>`}
        ${data && html`<p class="hint">Drop files onto this page to upload them here.</p>`}
      </div>
      ${asks?.deletes && html`
        <${Confirm} title="Delete this object?" verb="Delete the object" onClose=${() => setAsks(null)} run=${async () => { await remove(bucket, asks.item.name); refresh(); }}>
          <p class="prose"><code>gs://${bucket}/${asks.item.name}</code></p>
        <//>
      `}
      ${asks && !asks.deletes && html`<${Preview} bucket=${bucket} item=${asks.item} onClose=${() => setAsks(null)} />`}
    <//>
  `;
}

function Crumbs({ bucket, prefix }) {
  const parts = prefix.split("/").slice(0, -1);
  return html`<a href=${storagePath()}>Storage</a>${(parts.length ? ["", ...parts.slice(0, -1)] : []).map((part, at) => html` / <a key=${at} href=${storagePath(bucket, at ? `${parts.slice(0, at).join("/")}/` : "")}><bdi>${part || bucket}</bdi></a>`)}`;
}

function Objects({ bucket, prefix, data, onPreview, onDelete }) {
  const last = (name) => name.slice(prefix.length);
  return html`
    <div class="scroll"><table class="cards" role="table">
      <caption class="unseen">Objects in gs://${bucket}/${prefix}</caption>
      <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">Name</th><th role="columnheader" scope="col" class="number">Size</th><th role="columnheader" scope="col">Changed</th><th role="columnheader" scope="col"><span class="unseen">Actions</span></th></tr></thead>
      <tbody role="rowgroup">
        ${data.folders.map((name) => html`<tr role="row" key=${name}><td role="cell" class="wide"><${Icon} name="folder" /> <a href=${storagePath(bucket, name)}><bdi>${last(name)}</bdi></a></td><td role="cell"></td><td role="cell"></td><td role="cell"></td></tr>`)}
        ${data.objects.map((item) => html`
          <tr role="row" key=${item.name}>
            <td role="cell" class="wide"><${Icon} name=${isVideo(item.name) ? "video" : "file"} /> <${ObjectName} bucket=${bucket} item=${item} text=${last(item.name)} onPreview=${onPreview} /></td>
            <td role="cell" data-label="Size" class="number">${byteSize(item.size)}</td>
            <td role="cell" data-label="Changed" class="nowrap"><${Time} value=${item.updated} /></td>
            <td role="cell" class="last"><div class="row-actions">
              ${/\.jsonl$/i.test(item.name) && !item.name.endsWith(".truth.jsonl") && html`<${LinkButton} kind="small" href=${withQuery(placePath(currentPlace.get() ?? { project: "my-project", location: "us-central1" }, "batch-predictions", "create"), { source: `gs://${bucket}/${item.name}` })} aria-label="Use as source: ${last(item.name)}">Use as source<//>`}
              <${LinkButton} kind="small" download href=${downloadPath(bucket, item.name)} aria-label="Download ${last(item.name)}">Download<//>
              <${Button} kind="small" onClick=${() => onDelete(item)} aria-label="Delete ${last(item.name)}">Delete<//>
            </div></td>
          </tr>
        `)}
      </tbody>
    </table></div>
  `;
}

function ObjectName({ bucket, item, text, onPreview }) {
  if (isVideo(item.name) || TEXT.test(item.name)) return html`<button type="button" class="link" onClick=${() => onPreview(item)}><bdi>${text}</bdi></button>`;
  return html`<a download href=${downloadPath(bucket, item.name)}><bdi>${text}</bdi></a>`;
}

function Preview({ bucket, item, onClose }) {
  const path = downloadPath(bucket, item.name);
  const video = isVideo(item.name);
  const [failed, setFailed] = useState(false);
  const load = async (signal) => (video ? "" : (await get(path, { signal, raw: true, headers: { range: `bytes=0-${PREVIEW_BYTES - 1}` } })).text());
  const { data, error } = useResource(Number(item.size) ? load : async () => "", [item.name]);
  const actions = html`<${LinkButton} download href=${path}>Download<//><${Button} onClick=${onClose}>Close<//>`;
  return html`
    <${Dialog} title=${item.name.split("/").pop()} onClose=${onClose} actions=${actions} wide>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${video && !failed && html`<video src=${path} controls muted onError=${() => setFailed(true)}></video>`}
      ${failed && html`<${Notice} colour="amber"><p>This browser cannot play the video. Download it, or look at the results of a job over it.</p><//>`}
      ${data && html`<pre class="preview" tabindex="0" role="region" aria-label="Beginning of the file"><code>${data}</code></pre>`}
      ${!video && Number(item.size) > PREVIEW_BYTES && html`<p class="hint">The first ${byteSize(PREVIEW_BYTES)} of ${byteSize(item.size)}.</p>`}
      ${!video && data === "" && html`<p class="quiet">The file is empty.</p>`}
    <//>
  `;
}
