/** Calls the server's API, and knows whether the server answers. */
import { useEffect, useRef, useState } from "./third_party/htm-preact.js";

/** An answer that is an error. The server's messages name the remedy, so they are shown as they are. */
export class Problem extends Error {
  constructor(status, message, code = "", details = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

/** A value that components can watch. */
export function createStore(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (next === value) return;
      value = next;
      for (const watcher of [...watchers]) watcher(value);
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useStore(store) {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    setValue(store.get());
    return store.watch(setValue);
  }, [store]);
  return value;
}

/** `up`, or how long until the next try. `epoch` counts how often the server came back. */
export const connection = createStore({ up: true, retryAt: 0, epoch: 0 });
/** Whether the server asks for a token. */
export const locked = createStore(false);

// The reader's clock counts as right when it is this close to the server's, whose header has whole seconds.
const CLOCK_TOLERANCE_MS = 2000;
let clockError = 0;

function setClock(header) {
  const error = Date.parse(header ?? "") - Date.now();
  if (!Number.isNaN(error)) clockError = Math.abs(error) < CLOCK_TOLERANCE_MS ? 0 : error;
}

/** The time at the server, in milliseconds. */
export const serverNow = () => Date.now() + clockError;

const LONGEST_PAUSE_S = 10;
let pauseS = 1;

/**
 * One call. JSON in and out unless `body` is a Blob or `raw` asks for the response itself.
 * @returns {Promise<any>}
 */
export async function call(method, path, { body, query, signal, headers = {}, raw = false } = {}) {
  const options = { method, signal, headers: { ...headers }, cache: "no-store" };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  const response = await send(address(path, query), options);
  if (!response.ok) throw await problemOf(response);
  if (raw) return response;
  return response.status === 204 ? null : response.json();
}

/** A read that leaves no trace: the journal and the faults of the emulator are for the programs under test. */
export const get = (path, options) => call("GET", path, { ...options, headers: { ...options?.headers, "x-goog-emulator-observer": "console" } });

function address(path, query) {
  const known = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== "");
  return known.length ? `${path}?${new URLSearchParams(known)}` : path;
}

async function send(url, options) {
  try {
    const response = await fetch(url, options);
    if (!connection.get().up) cameBack();
    setClock(response.headers.get("date"));
    return response;
  } catch (error) {
    if (error.name !== "AbortError") lost();
    throw error;
  }
}

async function problemOf(response) {
  if (response.status === 401) locked.set(true);
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return new Problem(response.status, error.message, error.status, error.details);
  } catch {
    return new Problem(response.status, text.slice(0, 2000) || response.statusText);
  }
}

/** Note that the server does not answer, and look for it until it does. */
export function lost() {
  if (!connection.get().up) return;
  pauseS = 1;
  tryLater();
}

function tryLater() {
  connection.set({ ...connection.get(), up: false, retryAt: Date.now() + pauseS * 1000 });
  setTimeout(tryAgain, pauseS * 1000);
  pauseS = Math.min(pauseS * 2, LONGEST_PAUSE_S);
}

async function tryAgain() {
  if (connection.get().up) return;
  try {
    await fetch("/_emulator/health", { cache: "no-store" });
    cameBack();
  } catch {
    tryLater();
  }
}

function cameBack() {
  connection.set({ up: true, retryAt: 0, epoch: connection.get().epoch + 1 });
}

/**
 * What `load` gives, read anew when `deps` change, when the server comes back, and on `refresh`. What was
 * read stays while it is read again, and when reading fails.
 */
export function useResource(load, deps) {
  const [state, setState] = useState({ loading: true });
  const [turn, setTurn] = useState(0);
  const { epoch } = useStore(connection);
  const latest = useRef(null);
  useEffect(() => {
    const controller = new AbortController();
    latest.current = controller;
    setState((old) => ({ ...old, loading: true }));
    load(controller.signal).then(
      (data) => latest.current === controller && setState({ data, loading: false }),
      (error) => {
        if (latest.current !== controller || error.name === "AbortError") return;
        // A server that is gone has a bar of its own.
        const shown = error instanceof Problem ? error : undefined;
        setState((old) => ({ data: old.data, error: shown, loading: !shown && old.data === undefined }));
      },
    );
    return () => controller.abort();
  }, [...deps, turn, epoch]);
  return { ...state, refresh: () => setTurn((count) => count + 1), setData: (data) => setState({ data, loading: false }) };
}
