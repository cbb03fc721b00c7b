"""How long the server takes from process start to its first answer, and its memory at idle.

The yardstick is a process that does nothing but import what any such server imports: fastapi, uvicorn,
sqlalchemy.orm and google.protobuf. Goal: at most 1.4 times that, and under 85 MB at idle.
"""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from measure import arguments, interleaved, median, report, resident_mb

IMPORTS = "import fastapi, uvicorn, sqlalchemy.orm, google.protobuf.json_format"
PATH = "/v1/projects/p/locations/us-central1/batchPredictionJobs"


@contextmanager
def server() -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """Start a server in a fresh folder; gives the process, its URL and the moment it was started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "emulator", "serve", "--port", str(port), "--data-dir", folder]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process, f"http://127.0.0.1:{port}", started
        finally:
            process.terminate()
            process.wait(timeout=20)


def first_answer(url: str) -> None:
    """Ask until the server answers 200."""
    for _ in range(4000):
        try:
            with urllib.request.urlopen(url + PATH, timeout=5) as response:
                response.read()
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
    raise SystemExit("The server never answered.")


def imports_alone() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - started


def start_to_first_answer() -> float:
    with server() as (_, url, started):
        first_answer(url)
        return time.perf_counter() - started


def idle_memory() -> float:
    with server() as (process, url, _):
        first_answer(url)
        time.sleep(3)  # the workers have warmed up by then
        return resident_mb(process.pid)


def main() -> None:
    options = arguments(__doc__)
    samples = interleaved(
        options.rounds,
        {"imports alone": imports_alone, "start to first answer": start_to_first_answer},
        guard=not options.no_guard,
    )
    base = median(samples["imports alone"])
    rows: list[dict[str, object]] = [
        {"what": name, "median": 1000 * median(values), "unit": "ms", "ratio": median(values) / base}
        for name, values in samples.items()
    ]
    rows.append({"what": "server's memory at idle", "median": idle_memory(), "unit": "MB", "ratio": "-"})
    report("Start-up", rows, options.json)


if __name__ == "__main__":
    main()
