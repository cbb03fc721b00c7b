/** The models of a location, and one of them. */
import { html } from "./third_party/htm-preact.js";
import { get, useResource } from "./api.js";
import { idOf, objectiveText } from "./format.js";
import { Labels } from "./jobs.js";
import { EVERYWHERE } from "./place.js";
import { objectiveOf, parentOf } from "./request.js";
import { placePath, withQuery } from "./router.js";
import { CopyButton, Empty, LinkButton, Loading, Notice, Page, ProblemBox, Time } from "./ui.js";

const usePath = (place, id) => withQuery(placePath(place, "batch-predictions", "create"), { model: id });

/** What the server knows of models beyond the API: whether they are canned, what runs them, what is wrong with them. */
function facts(info, id, labels = {}) {
  const known = info.models.find((one) => one.id === id);
  const canned = known?.canned || labels["emulator-canned"] === "true";
  const problem = info.problems.find((one) => one.id === id)?.problem ?? "";
  return { runs: canned ? "Canned predictions" : known?.executionProvider ? `ONNX Runtime, ${known.executionProvider}` : "ONNX Runtime", problem };
}

const located = ({ project, location }) => ({ project, location: location === EVERYWHERE ? "us-central1" : location });

export default function Models(params) {
  const place = located(params);
  const load = (signal) => Promise.all([get(`/v1/${parentOf(place)}/models`, { signal, query: { pageSize: 1000 } }), get("/_emulator/info", { signal })]);
  const { data, error, loading } = useResource(load, [place.project, place.location]);
  const [{ models = [] } = {}, info] = data ?? [];
  return html`
    <${Page} title="Models">
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!data && loading && html`<${Loading} what="Loading models" />`}
      ${data && !models.length && html`<${Empty} title="No models in ${place.project} / ${place.location}."><p>Put a folder with a <code>model.toml</code> into the data folder's <code>models</code>, or upload a model through the API.</p><//>`}
      ${models.length > 0 && html`
        <div class="scroll"><table class="cards" role="table">
          <caption class="unseen">Models</caption>
          <thead role="rowgroup"><tr role="row">${["Name", "Objective", "Version", "Runs on", "Created", "Labels", "Use"].map((name) => html`<th role="columnheader" scope="col" key=${name}>${name === "Use" ? html`<span class="unseen">Use</span>` : name}</th>`)}</tr></thead>
          <tbody role="rowgroup">${models.map((model) => {
            const id = idOf(model.name);
            const { runs, problem } = facts(info, id, model.labels);
            return html`
              <tr role="row" key=${model.name}>
                <td role="cell" class="name"><a href=${placePath(place, "models", id)}><bdi>${model.displayName}</bdi></a><div class="id">${id}</div></td>
                <td role="cell" data-label="Objective">${objectiveText(objectiveOf(model))}</td>
                <td role="cell" data-label="Version">${model.versionId}</td>
                <td role="cell" data-label="Runs on">${problem ? html`<span class="wrong-text">Cannot be loaded</span>` : runs}</td>
                <td role="cell" data-label="Created" class="nowrap"><${Time} value=${model.createTime} /></td>
                <td role="cell" data-label="Labels"><${Labels} labels=${model.labels} /></td>
                <td role="cell" class="last"><${LinkButton} kind="small" href=${usePath(place, id)} aria-label="Use ${model.displayName} for prediction">Use<//></td>
              </tr>
            `;
          })}</tbody>
        </table></div>
      `}
    <//>
  `;
}

export function Model({ project, location, model: id }) {
  const place = located({ project, location });
  const name = `${parentOf(place)}/models/${id}`;
  const load = (signal) => Promise.all([get(`/v1/${name}`, { signal }), get(`/v1/${name}:listVersions`, { signal }), get("/_emulator/info", { signal })]);
  const { data, error, loading } = useResource(load, [name]);
  const [model, versions, info] = data ?? [];
  const crumbs = html`<a href=${placePath(place, "models")}>Models</a>`;
  if (!data) return html`<${Page} title=${id} crumbs=${crumbs}>${loading ? html`<${Loading} what="Loading the model" />` : html`<${ProblemBox} problem=${error} />`}<//>`;
  const { runs, problem } = facts(info, id, model.labels);
  const rows = [["Objective", objectiveText(objectiveOf(model))], ["Runs on", runs], ["Created", html`<${Time} value=${model.createTime} />`], ["Labels", model.labels && html`<${Labels} labels=${model.labels} />`]];
  return html`
    <${Page} title=${model.displayName} crumbs=${crumbs} actions=${html`<${LinkButton} kind="primary" href=${usePath(place, id)}>Use for prediction<//>`}>
      ${problem && html`<${Notice} colour="red" icon="cross"><p class="notice-title">This model cannot be loaded</p><p class="prose">${problem}</p><//>`}
      <section class="card" aria-label="Summary">
        ${model.description && html`<p class="prose">${model.description}</p>`}
        <dl class="facts">${rows.filter(([, value]) => value).map(([term, value]) => html`<div key=${term}><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>
        <div class="resource"><code>${model.name}</code><${CopyButton} text=${model.name} label="Copy name" kind="small" /></div>
      </section>
      <h2>Versions</h2>
      <div class="scroll" tabindex="0" role="region" aria-label="Versions"><table>
        <thead><tr>${["Version", "Aliases", "Created", "Description"].map((text) => html`<th scope="col" key=${text}>${text}</th>`)}</tr></thead>
        <tbody>${(versions.models ?? []).map((one) => html`<tr key=${one.versionId}><td>${one.versionId}</td><td class="nowrap">${(one.versionAliases ?? []).join(", ")}</td><td class="nowrap"><${Time} value=${one.versionCreateTime} /></td><td>${one.versionDescription ?? ""}</td></tr>`)}</tbody>
      </table></div>
    <//>
  `;
}
