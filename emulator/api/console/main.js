/** Starts the console: header, navigation, and the page that the address names. */
import { html, render, useEffect, useLayoutEffect, useState } from "./third_party/htm-preact.js";
import { connection, createStore, get, locked, useStore } from "./api.js";
import { currentPlace, firstPlace, PlacePickers, setPlace } from "./place.js";
import { catchLinks, match, navigate, placePath, ROOT, useAddress } from "./router.js";
import { SignIn } from "./session.js";
import { ConnectionBar, Icon, LiveRegion, Loading, Notice, Page } from "./ui.js";

const VIEWS = {
  jobs: () => import("./jobs.js"),
  create: () => import("./create.js"),
  models: () => import("./models.js"),
  model: () => import("./models.js").then(({ Model }) => ({ default: Model })),
  storage: () => import("./storage.js"),
  requests: () => import("./requests.js"),
  control: () => import("./control.js"),
  about: () => import("./about.js"),
  job: () => import("./job.js"),
  player: () => import("./player.js"),
};
const NAVIGATION = [
  ["jobs", "Batch predictions", (place) => placePath(place, "batch-predictions"), ["jobs", "job", "create", "player"]],
  ["models", "Models", (place) => placePath(place, "models"), ["models", "model"]],
  ["bucket", "Storage", () => `${ROOT}/storage`, ["storage"]],
  ["requests", "Requests", () => `${ROOT}/requests`, ["requests"]],
  ["control", "Control", () => `${ROOT}/control`, ["control"]],
  ["about", "About", () => `${ROOT}/about`, ["about"]],
];
const READY_PAUSE_MS = 5000;

const server = createStore({ ready: null, version: "" });

async function lookAtServer() {
  try {
    const { ready, version } = await get("/_emulator/info");
    server.set({ ready, version });
  } catch {
    server.set({ ...server.get(), ready: false });
  }
}

function Header() {
  const { ready, version } = useStore(server);
  useEffect(() => {
    lookAtServer();
    const timer = setInterval(() => document.hidden || lookAtServer(), READY_PAUSE_MS);
    return () => clearInterval(timer);
  }, []);
  const words = ready === null ? "Connecting" : ready ? "Ready" : "Not ready";
  return html`
    <header class="top">
      <a class="brand" href=${ROOT}><${Icon} name="video" />Vertex emulator</a>
      <div class="pickers"><${PlacePickers} /></div>
      <div class="server">
        <span class="dot ${ready ? "green" : "amber"}"><${Icon} name=${ready ? "tick" : "circle"} />${words}</span>
        <span class="quiet">${version}</span>
      </div>
    </header>
  `;
}

function Navigation({ view }) {
  const place = useStore(currentPlace) ?? { project: "my-project", location: "us-central1" };
  return html`
    <nav class="side" aria-label="Console">
      ${NAVIGATION.map(([icon, text, path, views]) => html`
        <a key=${text} href=${path(place)} aria-current=${views.includes(view) ? "page" : undefined}><${Icon} name=${icon} />${text}</a>
      `)}
    </nav>
  `;
}

/** The page at `/console` itself: go on to where one was. */
function Home() {
  useEffect(() => {
    firstPlace().then((place) => navigate(placePath(place, "batch-predictions"), { replace: true }), () => {});
  }, []);
  return html`<${Loading} />`;
}

function NotFound({ path }) {
  return html`
    <${Page} title="There is no such page">
      <p>The console has nothing at <code>${path}</code>.</p>
      <p><a href=${ROOT}>Batch predictions</a></p>
    <//>
  `;
}

/** Have every page at hand before the server stops, or a session ends. */
function loadOthers() {
  for (const load of Object.values(VIEWS)) load().catch(() => {});
}

/** The page of a view, loaded when it is first asked for. */
function View({ view, params, query, path }) {
  const [loaded, setLoaded] = useState({});
  const { epoch } = useStore(connection);
  useEffect(() => {
    if (!VIEWS[view] || (loaded.view === view && !loaded.error)) return undefined;
    // A page that comes late must not take the place of the one that was asked for after it.
    let wanted = true;
    VIEWS[view]().then(
      (module) => {
        if (wanted) setLoaded({ view, Component: module.default });
        loadOthers();
      },
      (error) => wanted && setLoaded({ view, error }),
    );
    return () => {
      wanted = false;
    };
  }, [view, epoch]);
  if (view === "home") return html`<${Home} />`;
  if (!VIEWS[view]) return html`<${NotFound} path=${path} />`;
  if (loaded.view !== view) return html`<${Loading} />`;
  if (loaded.error) return html`<${Notice} colour="red" icon="cross">This page cannot be loaded: ${loaded.error.message}. Reload it once the server answers.<//>`;
  const { Component } = loaded;
  return html`<${Component} key=${pageKey(view, params)} ...${params} query=${query} />`;
}

/** What is a page of its own: the tabs of a job are one page. */
const pageKey = (view, { project, location, job, model, number }) => [view, project, location, job, model, number].join("/");

function App() {
  const { path, query } = useAddress();
  const { view, params } = match(path);
  const { project, location: where } = params;
  useLayoutEffect(() => {
    if (project && project !== "-") setPlace({ project, location: where });
  }, [project, where]);
  useEffect(() => {
    // Links of other programs may leave the project out.
    if (project === "-") firstPlace().then((place) => navigate(path.replace("/projects/-/", `/projects/${place.project}/`), { replace: true }));
  }, [project, path]);
  return html`
    <a class="skip" href="#main">Skip to the page</a>
    <${Header} />
    <${ConnectionBar} />
    <div class="frame">
      <${Navigation} view=${view} />
      <main id="main" tabindex="-1"><${View} view=${view} params=${params} query=${query} path=${path} /></main>
    </div>
    <${LiveRegion} />
    ${useStore(locked) && html`<${SignIn} />`}
  `;
}

catchLinks();
render(html`<${App} />`, document.getElementById("app"));
