/** The project and the location that one looks at, and the pickers for them. */
import { html, useState } from "./third_party/htm-preact.js";
import { createStore, get, useResource, useStore } from "./api.js";
import { plural } from "./format.js";
import { match, navigate, placePath } from "./router.js";
import { Button, Dialog, Field, fieldProps, Icon, ProblemBox } from "./ui.js";

const KEY = "vertex-emulator.place";
const FIRST = { project: "my-project", location: "us-central1" };
/** Stands for every location, as in the API's own wildcards. */
export const EVERYWHERE = "-";

export const currentPlace = createStore(remembered());

function remembered() {
  try {
    const { project, location } = JSON.parse(localStorage.getItem(KEY)) ?? {};
    return project && location ? { project, location } : null;
  } catch {
    return null;
  }
}

/** Keep a place for the pages whose address has none, and for the next visit. */
export function setPlace(place) {
  const old = currentPlace.get();
  if (old?.project === place.project && old?.location === place.location) return;
  currentPlace.set(place);
  try {
    localStorage.setItem(KEY, JSON.stringify(place));
  } catch {
    // Nothing is remembered where the browser allows no storage.
  }
}

/** The projects and locations that hold something. */
export const loadScopes = async (signal) => (await get("/_emulator/scopes", { signal })).scopes;

/** Where to begin: where one was, else the place with most jobs. */
export async function firstPlace() {
  if (currentPlace.get()) return currentPlace.get();
  const scopes = await loadScopes();
  const most = scopes.reduce((best, scope) => (scope.jobs > (best?.jobs ?? 0) ? scope : best), null);
  return most ? { project: most.project, location: most.location } : FIRST;
}

/** The same page at another place; a job or a model of the old place gives way to the list. */
function moveTo(place) {
  const { view, params } = match(location.pathname);
  setPlace(place);
  if (!params.project) return;
  const end = { models: "models", model: "models", create: "batch-predictions/create" }[view] ?? "batch-predictions";
  navigate(placePath(place, ...end.split("/")));
}

export function PlacePickers() {
  const place = useStore(currentPlace) ?? FIRST;
  const [picks, setPicks] = useState(false);
  const everywhere = place.location === EVERYWHERE;
  return html`
    <button type="button" class="picker" aria-haspopup="dialog" onClick=${() => setPicks(true)}>
      <span class="picker-label">Project</span><span class="picker-value">${place.project}</span><${Icon} name="down" />
    </button>
    <button type="button" class="picker" aria-haspopup="dialog" onClick=${() => setPicks(true)}>
      <span class="picker-label">Location</span>
      <span class="picker-value">${everywhere ? "All locations" : place.location}</span><${Icon} name="down" />
    </button>
    ${picks && html`<${PlaceDialog} place=${place} onClose=${() => setPicks(false)} />`}
  `;
}

function PlaceDialog({ place, onClose }) {
  const [project, setProject] = useState(place.project);
  const [where, setWhere] = useState(place.location);
  const { data: scopes = [], error } = useResource(loadScopes, []);
  const go = (to) => {
    onClose();
    moveTo(to);
  };
  const submit = (event) => {
    event.preventDefault();
    if (project.trim() && where.trim()) go({ project: project.trim(), location: where.trim() });
  };
  const actions = html`
    <${Button} onClick=${onClose}>Cancel<//>
    <button type="submit" form="place-form" class="button primary">Open</button>
  `;
  return html`
    <${Dialog} title="Project and location" onClose=${onClose} actions=${actions} wide>
      <form id="place-form" class="row" onSubmit=${submit}>
        <${Field} id="place-project" label="Project id or number">
          <input ...${fieldProps("place-project")} value=${project} required autocomplete="off" spellcheck="false"
            onInput=${(event) => setProject(event.target.value)} />
        <//>
        <${Field} id="place-location" label="Location">
          <input ...${fieldProps("place-location")} value=${where} required list="place-locations" autocomplete="off" spellcheck="false"
            onInput=${(event) => setWhere(event.target.value)} />
        <//>
        <datalist id="place-locations">
          ${["us-central1", "us-east1", "europe-west1", "europe-west4", "asia-east1"].map((name) => html`<option key=${name} value=${name} />`)}
          <option value=${EVERYWHERE}>All locations</option>
        </datalist>
      </form>
      <p class="hint">Any project exists here: you need not create it. Location <code>-</code> shows the jobs of all locations.</p>
      ${error && html`<${ProblemBox} problem=${error} />`}
      ${scopes.length > 0 && html`
        <h3>In use</h3>
        <ul class="choices">
          ${scopes.map((scope) => html`
            <li key=${`${scope.number}/${scope.location}`}>
              <button type="button" onClick=${() => go({ project: scope.project, location: scope.location })}>
                <span><bdi>${scope.project}</bdi> <span class="quiet">${scope.location}</span></span>
                <span class="quiet">${plural(scope.jobs, "job")}</span>
              </button>
            </li>
          `)}
        </ul>
      `}
    <//>
  `;
}
