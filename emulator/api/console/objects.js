/** Cloud Storage's API: buckets, folders and objects; and a dialog to pick one. */
import { html, useState } from "./third_party/htm-preact.js";
import { call, get, useResource } from "./api.js";
import { byteSize } from "./format.js";
import { Button, Dialog, Icon, Loading, ProblemBox } from "./ui.js";

/** Where files go that are dropped on a form. */
export const UPLOADS = "console-uploads";
const PAGE_SIZE = 200;
const VIDEO = /\.(mp4|m4v|mov|avi|mkv|webm|ts|mpeg4?)$/i;
const MIME_TYPES = { mov: "video/quicktime", avi: "video/avi" };

const objectPath = (bucket, name) => `/storage/v1/b/${encodeURIComponent(bucket)}/o/${encodeURIComponent(name)}`;
export const downloadPath = (bucket, name) => `/download${objectPath(bucket, name)}?alt=media`;
export const isVideo = (name) => VIDEO.test(name);
/** The type that the API takes for a video; it knows three. */
export const mimeTypeOf = (name) => MIME_TYPES[name.split(".").pop().toLowerCase()] ?? "video/mp4";

export const listBuckets = async (signal) => (await get("/storage/v1/b", { signal, query: { project: "console" } })).items ?? [];

/** One page of what lies directly below a prefix. */
export async function listObjects(bucket, prefix, pageToken, signal) {
  const query = { prefix, delimiter: "/", maxResults: PAGE_SIZE, pageToken };
  const { prefixes = [], items = [], nextPageToken = "" } = await get(`/storage/v1/b/${encodeURIComponent(bucket)}/o`, { signal, query });
  return { folders: prefixes, objects: items.filter((item) => item.name !== prefix), next: nextPageToken };
}

/** Store an object; the bucket is made if it is missing. */
export async function upload(bucket, name, blob) {
  if (!(await listBuckets()).some((one) => one.name === bucket)) await createBucket(bucket);
  return call("POST", `/upload/storage/v1/b/${encodeURIComponent(bucket)}/o`, { body: blob, query: { uploadType: "media", name } });
}

export const createBucket = (name) => call("POST", "/storage/v1/b", { query: { project: "console" }, body: { name } });

export const remove = (bucket, name) => call("DELETE", objectPath(bucket, name));

/** Pick an object, or a folder for output. `onPick` is called with a gs:// path. */
export function ObjectDialog({ folders = false, onPick, onClose }) {
  const [bucket, setBucket] = useState("");
  const [prefix, setPrefix] = useState("");
  const load = (signal) => (bucket ? listObjects(bucket, prefix, "", signal) : listBuckets(signal).then((items) => ({ folders: items.map((item) => item.name), objects: [] })));
  const { data, error, loading } = useResource(load, [bucket, prefix]);
  const here = bucket ? `gs://${bucket}/${prefix}` : "Buckets";
  const enter = (name) => (bucket ? setPrefix(name) : setBucket(name));
  const up = () => (prefix ? setPrefix(prefix.replace(/[^/]*\/$/, "")) : setBucket(""));
  const actions = html`
    <${Button} onClick=${onClose}>Cancel<//>
    ${folders && html`<${Button} kind="primary" disabled=${!bucket} onClick=${() => onPick(here)}>Use this folder<//>`}
  `;
  const last = (name) => name.slice(prefix.length);
  return html`
    <${Dialog} title=${folders ? "Pick a folder" : "Pick a file"} onClose=${onClose} actions=${actions} wide>
      <p class="resource"><${Button} kind="small" disabled=${!bucket} onClick=${up}>Up<//><code>${here}</code></p>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${loading && !data && html`<${Loading} />`}
      ${data && html`
        <ul class="choices">
          ${data.folders.map((name) => html`<li key=${name}><button type="button" onClick=${() => enter(name)}><span><${Icon} name=${bucket ? "folder" : "bucket"} /> <bdi>${last(name)}</bdi></span></button></li>`)}
          ${!folders && data.objects.map((item) => html`<li key=${item.name}><button type="button" onClick=${() => onPick(`gs://${bucket}/${item.name}`)}><span><${Icon} name="file" /> <bdi>${last(item.name)}</bdi></span><span class="quiet">${byteSize(item.size)}</span></button></li>`)}
          ${!data.folders.length && (folders || !data.objects.length) && html`<li class="quiet pad">${bucket ? "Nothing here." : "There is no bucket yet. A job's destination makes its bucket."}</li>`}
        </ul>
      `}
      ${data?.next && html`<p class="hint">Only the first ${PAGE_SIZE} are shown; type the path of others.</p>`}
    <//>
  `;
}
