/** Turns the address into a view with its parameters. The address holds all state that can be linked. */
import { useEffect, useState } from "./third_party/htm-preact.js";

export const ROOT = "/console";
const PLACE = `${ROOT}/projects/:project/locations/:location`;
const ROUTES = [
  ["home", ROOT],
  ["jobs", `${PLACE}/batch-predictions`],
  ["create", `${PLACE}/batch-predictions/create`],
  ["job", `${PLACE}/batch-predictions/:job`],
  ["job", `${PLACE}/batch-predictions/:job/:tab`],
  ["player", `${PLACE}/batch-predictions/:job/results/:number`],
  ["models", `${PLACE}/models`],
  ["model", `${PLACE}/models/:model`],
  ["storage", `${ROOT}/storage`],
  ["storage", `${ROOT}/storage/:bucket`],
  ["storage", `${ROOT}/storage/:bucket/*prefix`],
  ["requests", `${ROOT}/requests`],
  ["control", `${ROOT}/control`],
  ["about", `${ROOT}/about`],
];

/**
 * The view of a path, with the parameters that the path holds; `none` when there is none.
 * @param {string} path
 * @returns {{view: string, params: Record<string, string>}}
 */
export function match(path) {
  const parts = path.replace(/\/+$/, "").split("/");
  for (const [view, pattern] of ROUTES) {
    const params = matchPattern(pattern.split("/"), parts);
    if (params) return { view, params };
  }
  return { view: "none", params: {} };
}

function matchPattern(pattern, parts) {
  const params = {};
  for (const [at, expected] of pattern.entries()) {
    if (expected.startsWith("*")) {
      params[expected.slice(1)] = decode(parts.slice(at).join("/"));
      return parts.length > at ? params : null;
    }
    if (at >= parts.length) return null;
    if (expected.startsWith(":") && parts[at]) params[expected.slice(1)] = decode(parts[at]);
    else if (expected !== parts[at]) return null;
  }
  return pattern.length === parts.length ? params : null;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The address below a project and a location.
 * @param {{project: string, location: string}} place
 * @param {...string} parts
 */
export function placePath(place, ...parts) {
  const names = [place.project, place.location].map(encodeURIComponent);
  return [`${ROOT}/projects/${names[0]}/locations/${names[1]}`, ...parts.map(encodeURIComponent)].join("/");
}

/** The page of a job, by its resource name or the parts of it. */
export function jobPath(place, job, ...parts) {
  return placePath(place, "batch-predictions", job, ...parts);
}

/** The browser of objects at a bucket and a prefix. */
export function storagePath(bucket = "", prefix = "") {
  const parts = prefix.split("/").map(encodeURIComponent).join("/");
  return [`${ROOT}/storage`, ...(bucket ? [encodeURIComponent(bucket)] : []), ...(prefix ? [parts] : [])].join("/");
}

/** An address with some query parameters changed; empty ones are left out. */
export function withQuery(path, query) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== "" && value != null) found.set(name, value);
  const text = found.toString();
  return text ? `${path}?${text}` : path;
}

const MOVED = "console:moved";

/** Go to another address of the console. `replace` leaves the history as long as it is. */
export function navigate(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", url);
  dispatchEvent(new Event(MOVED));
}

/** The address now, as a hook. */
export function useAddress() {
  const [address, setAddress] = useState(readAddress);
  useEffect(() => {
    const read = () => setAddress(readAddress());
    addEventListener("popstate", read);
    addEventListener(MOVED, read);
    return () => {
      removeEventListener("popstate", read);
      removeEventListener(MOVED, read);
    };
  }, []);
  return address;
}

/** The path and the query of the address now. */
export function readAddress() {
  return { path: location.pathname, query: Object.fromEntries(new URLSearchParams(location.search)) };
}

/** Follow links of the console without loading the page anew. */
export function catchLinks() {
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const plain = !event.defaultPrevented && event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey);
    if (!link || !plain || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    const path = link.pathname;
    if (path !== ROOT && !path.startsWith(`${ROOT}/`)) return;
    event.preventDefault();
    navigate(link.href);
    scrollTo(0, 0);
  });
}
