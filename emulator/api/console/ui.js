/** Parts that pages are made of. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./third_party/htm-preact.js";
import { connection, createStore, serverNow, useStore } from "./api.js";
import { describeState, localTime, utcTime } from "./format.js";

const PATHS = {
  circle: html`<circle cx="8" cy="8" r="5.5" />`,
  half: html`<circle cx="8" cy="8" r="5.5" /><path class="fill" d="M8 2.5a5.5 5.5 0 0 1 0 11z" />`,
  bars: html`<path d="M5.5 3.5v9M10.5 3.5v9" />`,
  slash: html`<circle cx="8" cy="8" r="5.5" /><path d="m4.5 11.5 7-7" />`,
  tick: html`<path d="m3 8.5 3.3 3.3L13 4.7" />`,
  dash: html`<path d="m2.5 7 2.5 2.5L9 4.5M9 12h5" />`,
  clock: html`<circle cx="8" cy="8" r="5.5" /><path d="M8 5v3.2l2 1.3" />`,
  cross: html`<path d="m4 4 8 8M12 4l-8 8" />`,
  plus: html`<path d="M8 3v10M3 8h10" />`,
  copy: html`<rect x="5.5" y="5.5" width="8" height="8" rx="1.5" /><path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2" />`,
  down: html`<path d="m4 6 4 4 4-4" />`,
  refresh: html`<path d="M13 8a5 5 0 1 1-1.5-3.6M13 2.5V5h-2.5" />`,
  folder: html`<path d="M2 4.5a1 1 0 0 1 1-1h3.2l1.5 1.8H13a1 1 0 0 1 1 1v5.2a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1z" />`,
  file: html`<path d="M4 2.5h5l3 3v8H4zM9 2.5v3h3" />`,
  video: html`<rect x="2" y="4" width="8.5" height="8" rx="1" /><path d="m10.5 7.5 3.5-2v5l-3.5-2z" />`,
  bucket: html`<path d="M3 4h10l-1.3 9H4.3zM3 4c0-.8 10-.8 10 0" />`,
  jobs: html`<path d="M5.5 4H14M5.5 8H14M5.5 12H14M2 4h.5M2 8h.5M2 12h.5" />`,
  models: html`<path d="m8 2 5.5 3v6L8 14l-5.5-3V5zM2.5 5 8 8l5.5-3M8 8v6" />`,
  requests: html`<path d="M2.5 5.5h9M9 3l2.5 2.5L9 8M13.5 10.5h-9M7 8l-2.5 2.5L7 13" />`,
  control: html`<path d="M2.5 5h5M10.5 5h3M2.5 11h2M7.5 11h6" /><circle cx="9" cy="5" r="1.5" /><circle cx="6" cy="11" r="1.5" />`,
  play: html`<path class="fill" d="M5 3.2v9.6l7.5-4.8z" />`,
  back: html`<path d="M10.5 4 6 8l4.5 4M4 4v8" />`,
  on: html`<path d="M5.5 4 10 8l-4.5 4M12 4v8" />`,
  minus: html`<path d="M3 8h10" />`,
  grid: html`<rect x="2.5" y="3.5" width="11" height="9" rx="1" /><path d="M6 3.5v9M10 3.5v9" />`,
  full: html`<path d="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10" />`,
  about: html`<circle cx="8" cy="8" r="5.5" /><path d="M8 7.5v3.200M8 5v.3" />`,
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">${PATHS[name]}</svg>`;
}

export function StateBadge({ job, held = false }) {
  const { words, colour, shape } = describeState(job, held);
  return html`<span class="state ${colour} ${shape}"><${Icon} name=${shape} />${words}</span>`;
}

/** A page with its one heading, which takes the focus when one comes from another page. */
export function Page({ title, documentTitle, crumbs, actions, children, aside }) {
  const heading = useRef(null);
  useLayoutEffect(() => {
    if (visited.get()) heading.current?.focus({ preventScroll: true });
    visited.set(true);
  }, []);
  useEffect(() => {
    document.title = `${documentTitle ?? title} – Vertex emulator`;
  }, [documentTitle, title]);
  return html`
    <div class="page">
      ${crumbs && html`<nav class="crumbs" aria-label="Breadcrumb">${crumbs}</nav>`}
      <div class="page-head">
        <h1 tabindex="-1" ref=${heading}><bdi>${title}</bdi></h1>
        ${actions && html`<div class="actions">${actions}</div>`}
      </div>
      ${aside}
      ${children}
    </div>
  `;
}

const visited = createStore(false);

export function Button({ kind = "", icon, children, ...rest }) {
  return html`<button type="button" class="button ${kind}" ...${rest}>${icon && html`<${Icon} name=${icon} />`}${children}</button>`;
}

export function LinkButton({ kind = "", icon, children, ...rest }) {
  return html`<a class="button ${kind}" ...${rest}>${icon && html`<${Icon} name=${icon} />`}${children}</a>`;
}

/** A button that copies a text, and says that it did. */
export function CopyButton({ text, label = "Copy", kind = "" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await copyText(typeof text === "function" ? text() : text);
    setDone(true);
    announce("Copied");
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${Button} kind=${kind} icon=${done ? "tick" : "copy"} onClick=${copy}>${done ? "Copied" : label}<//>`;
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS, only localhost has a clipboard of the newer kind.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  return area.remove();
}

export function Time({ value }) {
  if (!value) return "";
  const [day, ...time] = localTime(value).split(" ");
  return html`<time datetime=${value} title=${utcTime(value)}><span class="nowrap">${day}</span> <span class="nowrap">${time.join(" ")}</span></time>`;
}

/** What is shown while something loads; it stays out of sight when that is quick. */
export function Loading({ what = "Loading" }) {
  return html`<p class="loading" role="status">${what} …</p>`;
}

/** An error of the server in its own words. */
export function ProblemBox({ problem, title = "", children }) {
  return html`
    <div class="notice red" role="alert">
      <${Icon} name="cross" />
      <div>
        ${title && html`<p class="notice-title">${title}</p>`}
        <p class="prose">${problem.message}</p>
        ${problem.status && html`<p class="quiet">${[problem.status, problem.code].filter(Boolean).join(" ")}</p>`}
        ${children}
      </div>
    </div>
  `;
}

export function Notice({ colour = "grey", icon = "about", children }) {
  return html`<div class="notice ${colour}"><${Icon} name=${icon} /><div>${children}</div></div>`;
}

export function Empty({ title, children, actions }) {
  return html`
    <div class="empty">
      <h2>${title}</h2>
      ${actions && html`<div class="actions">${actions}</div>`}
      ${children}
    </div>
  `;
}

/** A modal dialog. `onClose` is called however it ends. */
export function Dialog({ title, onClose, children, actions, wide = false }) {
  const element = useRef(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`
    <dialog ref=${element} class=${wide ? "wide" : ""} aria-labelledby="dialog-title" onClose=${onClose}>
      <h2 id="dialog-title">${title}</h2>
      <div class="dialog-body">${children}</div>
      <div class="dialog-actions">${actions}</div>
    </dialog>
  `;
}

/** Asks before something is done that cannot be undone; `run` may fail, which is shown in place. */
export function Confirm({ title, verb, kind = "danger", run, onClose, children }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const confirm = async () => {
    setBusy(true);
    try {
      await run();
      onClose();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const actions = html`
    <${Button} onClick=${onClose}>Keep<//>
    <${Button} kind=${kind} disabled=${busy} onClick=${confirm}>${verb}<//>
  `;
  return html`
    <${Dialog} title=${title} onClose=${onClose} actions=${actions}>
      ${children}
      ${problem && html`<${ProblemBox} problem=${problem} />`}
    <//>
  `;
}

/** Tabs within a page. `tabs` are pairs of a text and its content. */
export function Tabs({ label, id, tabs }) {
  const [at, setAt] = useState(0);
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (at + step + tabs.length) % tabs.length;
    setAt(next);
    event.currentTarget.children[next].focus();
  };
  return html`
    <div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
      ${tabs.map(([text], index) => html`
        <button type="button" role="tab" id="${id}-tab-${index}" aria-controls="${id}-panel" aria-selected=${index === at ? "true" : "false"}
          tabindex=${index === at ? 0 : -1} onClick=${() => setAt(index)}>${text}</button>
      `)}
    </div>
    <div role="tabpanel" id="${id}-panel" aria-labelledby="${id}-tab-${at}">${tabs[at][1]}</div>
  `;
}

/** A text to copy, such as a command. */
export function Code({ text, label }) {
  return html`
    <div class="code">
      <pre tabindex="0" role="region" aria-label=${label}><code>${text}</code></pre>
      <${CopyButton} text=${text} kind="small" />
    </div>
  `;
}

/** A field with its label, a hint and what is wrong with it. */
export function Field({ id, label, hint, error, optional, children }) {
  return html`
    <div class="field ${error ? "wrong" : ""}">
      <label for=${id}>${label}${optional && html` <span class="quiet">optional</span>`}</label>
      ${children}
      ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
      ${error && html`<p class="wrong-text" id="${id}-error">${error}</p>`}
    </div>
  `;
}

/** The attributes that tie an input to its Field. */
export function fieldProps(id, { hint, error } = {}) {
  const described = [error && `${id}-error`, hint && `${id}-hint`].filter(Boolean).join(" ");
  return { id, name: id, "aria-invalid": error ? "true" : undefined, "aria-describedby": described || undefined };
}

const announcement = createStore("");

/** Tell screen readers of a change. */
export const announce = (text) => announcement.set(text);

export function LiveRegion() {
  return html`<div class="unseen" role="status" aria-live="polite">${useStore(announcement)}</div>`;
}

/** The time at the server, a second at a time, while `runs`. */
export function useNow(runs = true) {
  const [now, setNow] = useState(serverNow());
  useEffect(() => {
    if (!runs) return undefined;
    setNow(serverNow());
    const timer = setInterval(() => setNow(serverNow()), 1000);
    return () => clearInterval(timer);
  }, [runs]);
  return now;
}

/** The bar that says that the server does not answer. */
export function ConnectionBar() {
  const { up, retryAt } = useStore(connection);
  useNow(!up);
  if (up) return null;
  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  return html`
    <div class="connection-bar" role="alert">
      No answer from ${location.host}, <span aria-live="off">trying again in ${seconds} s</span>. What you see may be out of date.
    </div>
  `;
}
