/** The results of a job: a row for each input line, and the files that it wrote. */
import { html } from "./third_party/htm-preact.js";
import { get, useResource } from "./api.js";
import { byteSize, countsOf, hasEnded, idOf, plural } from "./format.js";
import { downloadPath } from "./objects.js";
import { jobPath, storagePath, withQuery } from "./router.js";
import { seconds } from "./times.js";
import { styleOf } from "./overlay.js";
import { Empty, Icon, LinkButton, Loading, Notice, ProblemBox } from "./ui.js";

const SHOWN_LABELS = 4;
const EXPORTS = [["jsonl", "All results as JSON Lines"], ["csv", "This table as CSV"]];

const splitUri = (uri) => uri.match(/^gs:\/\/([^/]+)\/?(.*)$/)?.slice(1) ?? ["", ""];

export default function Results({ job, place, query = {} }) {
  const page = Math.max(1, Math.floor(Number(query.page)) || 1);
  const id = idOf(job.name);
  const stamp = JSON.stringify([job.state, job.completionStats]);
  const load = (signal) => get(`/_emulator/jobs/${encodeURIComponent(id)}/results`, { signal, query: { page } });
  const { data, error, loading } = useResource(load, [id, page, stamp]);
  const directory = job.outputInfo?.gcsOutputDirectory;
  const { done, failed } = countsOf(job);
  const wrote = directory && (hasEnded(job) || done || failed);
  return html`
    ${error && error.status !== 404 && html`<${ProblemBox} problem=${error} />`}
    ${!data && loading && html`<${Loading} what="Loading the results" />`}
    ${data?.notes.map((note) => html`<${Notice} key=${note} colour="amber"><p class="prose">${note}</p><//>`)}
    ${data && !data.total && html`<${Notice}><p>${hasEnded(job) ? "The job wrote no results." : "Nothing is written yet."}</p><//>`}
    ${data?.total > 0 && html`<${Rows} data=${data} place=${place} job=${id} ended=${hasEnded(job)} />`}
    ${data?.pages > 1 && html`<${Pages} data=${data} path=${jobPath(place, id)} />`}
    ${wrote && html`<${Files} job=${id} directory=${directory} stamp=${stamp} />`}
  `;
}

function Rows({ data, place, job, ended }) {
  const labels = [...new Set(data.results.flatMap((row) => Object.keys(row.labels ?? {})))];
  const places = new Map(labels.map((label, index) => [label, index]));
  return html`
    <div class="scroll">
      <table class="cards results">
        <caption class="unseen">Results, one for each line of the input</caption>
        <thead><tr><th scope="col" class="number">Line</th><th scope="col">Video</th><th scope="col">Segment</th><th scope="col">Predictions</th><th scope="col" class="number">Best confidence</th></tr></thead>
        <tbody>${data.results.map((row) => html`<${Row} key=${row.number} row=${row} path=${jobPath(place, job, "results", String(row.number))} places=${places} ended=${ended} />`)}</tbody>
      </table>
    </div>
  `;
}

function Row({ row, path, places, ended }) {
  const name = row.video ? row.video.slice(row.video.lastIndexOf("/") + 1) : row.input || "no video";
  const segment = row.timeSegmentStart || row.timeSegmentEnd ? `${row.timeSegmentStart || "0s"} – ${row.timeSegmentEnd || "Infinity"}` : "whole";
  return html`
    <tr>
      <td class="number" data-label="Line">${row.number}</td>
      <td class="name"><a href=${path} title=${row.video}><bdi>${name}</bdi></a></td>
      <td class="nowrap" data-label="Segment">${segment}</td>
      <td class="found" data-label="Predictions">${row.error ? html`<span class="wrong-text prose"><${Icon} name="cross" /> ${row.error.message}</span>` : html`<${Found} row=${row} places=${places} ended=${ended} />`}</td>
      <td class="number" data-label="Confidence">${row.confidence == null ? "" : row.confidence.toFixed(2)}</td>
    </tr>
  `;
}

function Found({ row, places, ended }) {
  if (!row.file) return html`<span class="quiet">${ended ? "No result" : "Not predicted yet"}</span>`;
  const labels = Object.entries(row.labels).sort((one, other) => other[1] - one[1]);
  if (!labels.length) return html`<span class="quiet">The model found nothing</span>`;
  const total = labels.reduce((sum, [, count]) => sum + count, 0);
  const texts = labels.slice(0, SHOWN_LABELS).map(([label, count]) => (count > 1 ? `${label} ${count}` : label));
  return html`<span class="found-text"><span>${plural(total, "prediction")}: <bdi>${texts.join(", ")}</bdi>${labels.length > SHOWN_LABELS && ", …"}</span><${Strip} spans=${row.spans} places=${places} /></span>`;
}

/** A small timeline of the first predictions. */
function Strip({ spans, places }) {
  const times = spans.map(([label, from, to]) => [label, seconds(from), seconds(to)]);
  const end = Math.max(0.1, ...times.map(([, , to]) => to));
  return html`
    <svg class="strip" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true">
      <rect class="strip-back" width="200" height="12" rx="2" />
      ${times.map(([label, from, to], index) => html`<rect key=${index} class="c${styleOf(places.get(label) ?? 0).index}" x=${(from / end) * 196} y=${to > from ? 1 + (index % 3) * 3.5 : 1} width=${Math.max(4, ((to - from) / end) * 196)} height=${to > from ? 3 : 10} />`)}
    </svg>
  `;
}

function Pages({ data, path }) {
  const link = (page, text) => (page >= 1 && page <= data.pages ? html`<${LinkButton} kind="small" href=${withQuery(path, { page: page > 1 ? page : "" })}>${text}<//>` : null);
  return html`<nav class="pages" aria-label="Pages of results"><span class="quiet">Page ${data.page} of ${data.pages}, ${plural(data.total, "line")}</span>${link(data.page - 1, "Previous page")}${link(data.page + 1, "Next page")}</nav>`;
}

function Files({ job, directory, stamp }) {
  const [bucket, prefix] = splitUri(directory);
  const load = (signal) => get(`/storage/v1/b/${encodeURIComponent(bucket)}/o`, { signal, query: { prefix: `${prefix}/` } });
  const { data, error, loading } = useResource(load, [directory, stamp]);
  if (error && error.status !== 404) return html`<${ProblemBox} problem=${error} />`;
  if (!data && loading) return null;
  const items = data?.items ?? [];
  const open = html`<${LinkButton} icon="folder" href=${storagePath(bucket, `${prefix}/`)}>Open in Storage<//>`;
  if (!items.length) return html`<${Empty} title="The output directory is no longer there"><p class="prose"><code>${directory}</code></p><//>`;
  return html`
    <h2>Files</h2>
    <div class="scroll">
      <table>
        <caption class="unseen">Output files</caption>
        <thead><tr><th scope="col">File</th><th scope="col" class="number">Size</th></tr></thead>
        <tbody>
          ${items.map((item) => html`<tr key=${item.name}><td><a download href=${downloadPath(bucket, item.name)}>${item.name.slice(prefix.length + 1)}</a></td><td class="number">${byteSize(item.size)}</td></tr>`)}
        </tbody>
      </table>
    </div>
    <div class="actions">${open}${EXPORTS.map(([format, text]) => html`<${LinkButton} key=${format} download icon="down" href=${withQuery(`/_emulator/jobs/${job}/export`, { format })}>${text}<//>`)}</div>
  `;
}
