/** What an empty list of jobs offers: ways to the first job. */
import { html, useState } from "./third_party/htm-preact.js";
import { call, useResource } from "./api.js";
import { plural } from "./format.js";
import { EVERYWHERE, loadScopes } from "./place.js";
import { curlOf, exampleBody, parentOf } from "./request.js";
import { placePath } from "./router.js";
import { Button, Code, Empty, LinkButton, Notice, ProblemBox } from "./ui.js";

export function FirstSteps({ place, onCreated }) {
  const { data: scopes = [] } = useResource(loadScopes, []);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const target = { ...place, location: place.location === EVERYWHERE ? "us-central1" : place.location };
  const run = async () => {
    setBusy(true);
    setProblem(null);
    try {
      await call("POST", "/_emulator/example", { body: { parent: parentOf(target) } });
      onCreated();
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  const where = place.location === EVERYWHERE ? place.project : `${place.project} / ${place.location}`;
  const actions = html`
    <${LinkButton} kind="primary" icon="plus" href=${placePath(place, "batch-predictions", "create")}>Create<//>
    <${Button} disabled=${busy} onClick=${run}>Run the example<//>
  `;
  return html`
    <${Empty} title="No batch predictions in ${where} yet." actions=${actions}>
      <div role="status" class="notes">${busy && html`<${Notice} icon="clock"><p>Rendering the two videos of the documentation. The first time takes half a minute or more; the jobs appear here.</p><//>`}</div>
      ${problem && html`<${ProblemBox} title="The example cannot run" problem=${problem} />`}
      <${Others} place=${place} scopes=${scopes} />
      <p class="quiet">The example renders two videos and finds a cat, a dog, a swing and a jump in them. Or send the documentation's request from a shell:</p>
      <${Code} label="Request with curl" text=${curlOf(location.origin, target, exampleBody(target))} />
    <//>
  `;
}

function Others({ place, scopes }) {
  const elsewhere = scopes.filter((scope) => scope.jobs && !([scope.project, scope.number].includes(place.project) && [scope.location, EVERYWHERE].includes(place.location)));
  if (!elsewhere.length) return null;
  const jobs = elsewhere.reduce((sum, scope) => sum + scope.jobs, 0);
  return html`
    <p>${plural(jobs, "job")} in other projects and locations:${" "}
      ${elsewhere.slice(0, 8).map((scope, at) => html`${at > 0 && ", "}<a key=${at} href=${placePath(scope, "batch-predictions")}><bdi>${scope.project}</bdi> / ${scope.location}</a>`)}
    </p>
  `;
}
