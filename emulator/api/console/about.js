/** What this server is: version, addresses, workers, settings and where each came from. */
import { html } from "./third_party/htm-preact.js";
import { get, useResource } from "./api.js";
import { duration, plural } from "./format.js";
import { Code, Loading, Notice, Page, ProblemBox } from "./ui.js";

export default function About() {
  const { data: info, error, loading } = useResource((signal) => get("/_emulator/info", { signal }), []);
  return html`
    <${Page} title="About">
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${!info && loading && html`<${Loading} />`}
      ${info && html`<${Info} info=${info} />`}
    <//>
  `;
}

function Info({ info }) {
  const { rest, grpc, tls } = info.addresses;
  const facts = [
    ["Version", info.version], ["REST", rest], ["gRPC", grpc ?? "off"], ["TLS", tls ?? "off"], ["Up for", duration(info.uptimeSeconds)],
    ["Workers", `${plural(info.workers.ready, "process", "processes")} ready`], ["Running jobs", info.runningJobs], ["Python", info.python], ["Process", info.processId],
  ];
  const settings = Object.entries(info.settings);
  const changed = settings.filter(([, { from }]) => from !== "default" && from !== "code");
  return html`
    <section class="card" aria-label="Server"><dl class="facts">${facts.map(([term, value]) => html`<div key=${term}><dt>${term}</dt><dd>${value}</dd></div>`)}</dl></section>
    ${info.problems.map((one) => html`<${Notice} key=${one.id} colour="red" icon="cross"><p class="notice-title">The model ${one.id} cannot be loaded</p><p class="prose">${one.problem}</p><//>`)}
    <section class="card" aria-labelledby="env-title">
      <h2 id="env-title">Point clients here</h2>
      <p>Run this in the shell that starts your program, with the settings that the server has:</p>
      <${Code} label="Command for the environment" text=${envCommand(changed, rest)} />
      <p class="hint">API documentation: <a href="/docs" target="_blank" rel="noopener">/docs</a></p>
    </section>
    <h2>Settings</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Settings"><table class="fields">
      <thead><tr><th scope="col">Setting</th><th scope="col">Value</th><th scope="col">From</th></tr></thead>
      <tbody>${settings.map(([name, { value, from }]) => html`<tr key=${name}><th scope="row"><code>${name}</code></th><td>${value === null || value === "" ? html`<span class="quiet">–</span>` : html`<code>${typeof value === "string" ? value : JSON.stringify(value)}</code>`}</td><td class="nowrap ${from === "default" ? "quiet" : ""}">${from}</td></tr>`)}</tbody>
    </table></div>
  `;
}

function envCommand(changed, rest) {
  const options = changed.filter(([name]) => ["host", "data_dir", "tls_names"].includes(name)).map(([name, { value }]) => ` --${name.replaceAll("_", "-")} '${value}'`);
  return `eval "$(vertex-emulator env --port ${new URL(rest).port}${options.join("")})"`;
}
