/** One stream of events a tab: browsers have six connections to a host. A hidden tab has none. */
import { connection, get, lost, Problem } from "./api.js";

const PATH = "/_emulator/events";
const PAUSE_MS = 1000;
const listeners = new Set();
const others = "BroadcastChannel" in globalThis ? new BroadcastChannel("vertex-emulator") : null;
let source = null;
let last = "";

/** Have `hear` called with each step of a job, and with null when anything may have changed. */
export function listen(hear) {
  listeners.add(hear);
  open();
  return () => {
    listeners.delete(hear);
    if (!listeners.size) close();
  };
}

/** Tell this tab and others that jobs were changed in a way that makes no event, such as a deletion. */
export function tellChange() {
  others?.postMessage("changed");
  tell(null);
}

function tell(event) {
  for (const hear of [...listeners]) hear(event);
}

function open() {
  if (source || document.hidden || !listeners.size || !connection.get().up) return;
  source = new EventSource(last ? `${PATH}?after=${last}` : PATH);
  source.onerror = failed;
  for (const kind of ["state", "step"]) {
    source.addEventListener(kind, (message) => {
      last = message.lastEventId;
      tell(JSON.parse(message.data));
    });
  }
}

function close() {
  source?.close();
  source = null;
}

/** A stream that ended: the server has stopped, or it will have us again. */
function failed() {
  close();
  setTimeout(async () => {
    try {
      // Without a session this fails, and asks for the token; health would not.
      await get("/_emulator/scopes");
      open();
    } catch (error) {
      if (!(error instanceof Problem)) lost();
    }
  }, PAUSE_MS);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return close();
  open();
  return tell(null);
});
connection.watch(({ up }) => {
  if (!up) return close();
  // Another server may count anew.
  last = "";
  return open();
});
others?.addEventListener("message", () => tell(null));
