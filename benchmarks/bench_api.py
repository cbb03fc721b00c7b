"""How long a call of the API takes: REST and gRPC, beside moto's server doing the same for SageMaker.

Every figure is taken in interleaved rounds of one run, so that only the ratios mean something. moto is
installed into an environment of its own (`.venv-moto`), for measuring only. Goals: create, get and list over
REST within 0.35 of moto's p50 with one client; a list of ten with 20,000 jobs within 1.5 of one with ten; the
p99 of a get while a job keeps every core busy within 25 ms.

While calls are counted the jobs stay PENDING: one job, whose worker is stopped by a signal, has the only
place.
"""

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from measure import arguments, interleaved, median, paired, report

from emulator.database import Database, NewJob
from emulator.vertex.contract import load
from emulator.vertex.names import project_number

CALLS = 200
CLIENTS = (1, 16)
MANY_JOBS, FEW_JOBS = 20_000, 10
PROJECT, LOCATION = "my-project", "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
MODEL = "video-object-tracking"
MOTO = Path(__file__).parents[1] / ".venv-moto"
SERVICE = "/google.cloud.aiplatform.v1.JobService"
JOB = {
    "displayName": "benchmark",
    "model": f"{PARENT}/models/{MODEL}",
    "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://bucket/input.jsonl"]}},
    "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://bucket/out"}},
    "modelParameters": {"confidenceThreshold": 0.5},
}

Call = Callable[[], object]
Client = Callable[[], Call]
"""Opens a connection of its own; what it returns makes one call over it."""


@dataclass(frozen=True)
class Burst:
    """What some calls took, in milliseconds."""

    p50: float
    p99: float


class Http:
    """A keep-alive HTTP client that costs as little as one can: the server's time is to be measured."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open()

    def send(self, request: bytes) -> bytes:
        """Send a request as it stands; returns the body of the answer, which must be a 200."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            raise SystemExit(f"The server did not answer 200: {received.decode(errors='replace')}")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._receive()
        if b"connection: close" in head.lower():
            self._socket.close()
            self._open()
        return body

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise SystemExit("The server closed the connection.")
        return data


def http_request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def rest_calls(port: int) -> dict[str, Client]:
    """Create, get and list over REST."""
    create = http_request("POST", f"/v1/{PARENT}/batchPredictionJobs", JOB, Content_Type="application/json")
    name = json.loads(Http(port).send(create))["name"]
    requests = {
        "create": create,
        "get": http_request("GET", f"/v1/{name}"),
        "list": http_request("GET", f"/v1/{PARENT}/batchPredictionJobs?pageSize=10"),
    }

    def client(request: bytes) -> Client:
        def open_one() -> Call:
            http = Http(port)
            return lambda: http.send(request)

        return open_one

    return {call: client(request) for call, request in requests.items()}


def grpc_calls(port: int, name: str) -> dict[str, Client]:
    """The same over gRPC in plain text; the messages are serialized beforehand, as the REST requests are."""
    v1 = load().v1
    job = v1.BatchPredictionJob(display_name="benchmark", model=f"{PARENT}/models/{MODEL}")
    job.input_config.instances_format = job.output_config.predictions_format = "jsonl"
    job.input_config.gcs_source.uris.append("gs://bucket/input.jsonl")
    job.output_config.gcs_destination.output_uri_prefix = "gs://bucket/out"
    job.model_parameters.struct_value.fields["confidenceThreshold"].number_value = 0.5
    requests = {
        "create": ("Create", v1.CreateBatchPredictionJobRequest(parent=PARENT, batch_prediction_job=job)),
        "get": ("Get", v1.GetBatchPredictionJobRequest(name=name)),
        "list": ("List", v1.ListBatchPredictionJobsRequest(parent=PARENT, page_size=10)),
    }

    def client(method: str, request: bytes) -> Client:
        def open_one() -> Call:
            # Channels of one process share a connection unless told otherwise.
            channel = grpc.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
            )
            call = channel.unary_unary(f"{SERVICE}/{method}")
            return lambda: call(request)

        return open_one

    return {
        call: client(f"{kind}BatchPredictionJob{'s' if kind == 'List' else ''}", message.SerializeToString())
        for call, (kind, message) in requests.items()
    }


def moto_calls(port: int) -> dict[str, Client]:
    """SageMaker's batch transform jobs, the nearest thing there is in another emulator."""
    numbers = itertools.count()
    headers = {
        "Content_Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sagemaker/aws4_request,"
        " SignedHeaders=host, Signature=0",
    }

    def request(action: str, body: object) -> bytes:
        return http_request("POST", "/", body, X_Amz_Target=f"SageMaker.{action}", **headers)

    def create() -> bytes:
        s3 = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/input.jsonl"}
        job = {
            "TransformJobName": f"benchmark-{next(numbers)}",
            "ModelName": MODEL,
            "TransformInput": {"DataSource": {"S3DataSource": s3}, "ContentType": "application/jsonlines"},
            "TransformOutput": {"S3OutputPath": "s3://bucket/out"},
            "TransformResources": {"InstanceType": "ml.m4.xlarge", "InstanceCount": 1},
        }
        return request("CreateTransformJob", job)

    def client(make: Callable[[], bytes]) -> Client:
        def open_one() -> Call:
            http = Http(port)
            return lambda: http.send(make())

        return open_one

    Http(port).send(create())
    get = request("DescribeTransformJob", {"TransformJobName": "benchmark-0"})
    listing = request("ListTransformJobs", {"MaxResults": 10})
    return {"create": client(create), "get": client(lambda: get), "list": client(lambda: listing)}


def burst(client: Client, clients: int, calls: int = CALLS) -> Burst:
    """Make `calls` calls from each of some clients at once, each waiting for its answer before the next."""
    took: list[float] = []
    begin = threading.Barrier(clients)

    def work() -> None:
        call = client()
        call()  # the connection
        begin.wait()
        own = []
        for _ in range(max(calls // clients, 20)):
            started = time.perf_counter()
            call()
            own.append(1000 * (time.perf_counter() - started))
        took.extend(own)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return percentiles(took)


def percentiles(took: Sequence[float]) -> Burst:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return Burst(cuts[49], cuts[98])


@contextmanager
def process(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block."""
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGCONT)
        running.terminate()
        running.wait(timeout=30)


@contextmanager
def emulator(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A server on that data folder; gives its process, its port, and that of gRPC."""
    port, grpc_port = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "emulator",
        "serve",
        "--prediction-cache-mb",
        "0",
        "--port",
        str(port),
        "--grpc-port",
        str(grpc_port),
    ]
    with process([*command, "--data-dir", folder, *options]) as running:
        wait_for(port, http_request("GET", f"/v1/{PARENT}/models"))
        yield running, port, grpc_port


@contextmanager
def moto() -> Iterator[int]:
    """moto's server; gives its port."""
    program = MOTO / "bin" / "moto_server"
    if not program.exists():
        print("Installing moto into", MOTO, file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", MOTO], check=True)
        subprocess.run([MOTO / "bin" / "pip", "install", "--quiet", "moto[server]"], check=True)
    port = free_port()
    with process([program, "-p", str(port)]):
        wait_for(port, http_request("GET", "/moto-api/data.json"))
        yield port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(port: int, request: bytes) -> None:
    for _ in range(1200):
        try:
            Http(port).send(request)
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"Nothing answers at port {port}.")


def write_clips(bucket: Path, count: int, seconds: int) -> None:
    """Put videos into a bucket, and `input.jsonl` that names them."""
    from emulator.factory import Encoder

    bucket.mkdir(parents=True)
    import numpy as np

    noise = np.random.default_rng(1).integers(0, 255, (240, 320 + 64, 3), dtype=np.uint8)
    with Encoder(bucket / "0.mp4", size=(320, 240), fps=10) as encoder:
        for number in range(seconds * 10):
            encoder.write(np.ascontiguousarray(noise[:, number % 64 : number % 64 + 320]))
    instance = {"mimeType": "video/mp4", "timeSegmentStart": "0s", "timeSegmentEnd": "Infinity"}
    for number in range(1, count):
        (bucket / f"{number}.mp4").hardlink_to(bucket / "0.mp4")
    lines = (json.dumps({"content": f"gs://bucket/{number}.mp4", **instance}) for number in range(count))
    (bucket / "input.jsonl").write_text("\n".join(lines))


def start_job(port: int) -> str:
    """Create a job and wait until it runs; returns its name."""
    http = Http(port)
    create = http_request("POST", f"/v1/{PARENT}/batchPredictionJobs", JOB, Content_Type="application/json")
    name = str(json.loads(http.send(create))["name"])
    while json.loads(http.send(http_request("GET", f"/v1/{name}")))["state"] != "JOB_STATE_RUNNING":
        time.sleep(0.02)
    return name


def stop_workers(server: subprocess.Popen[bytes]) -> None:
    """Stop the worker processes where they are: a job that runs goes on running, and costs nothing."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        if int(fields[1]) == server.pid:
            os.kill(int(path.parent.name), signal.SIGSTOP)


def fill(folder: Path, count: int) -> None:
    """Put finished jobs into a database."""
    folder.mkdir(parents=True)
    database = Database(f"sqlite:///{folder / 'emulator.db'}")
    document = load().v1.BatchPredictionJob(display_name="benchmark", model=JOB["model"]).SerializeToString()
    number = project_number(PROJECT, {})
    for at in range(count):
        job_id = 10**18 + at
        row = NewJob(
            job_id, number, LOCATION, "benchmark", MODEL, 1, "model", "OBJECT_TRACKING", "/nowhere", {},
            document, 1_700_000_000_000_000 + at,
        )  # fmt: skip
        database.insert_job(row)
        database.request_cancel(job_id)
    database.close()


def compare_calls(options: Any, folder: Path, parts: ExitStack) -> list[dict[str, object]]:
    write_clips(folder / "buckets" / "bucket", count=4, seconds=600)
    quiet = ["--workers", "1", "--max-running-jobs", "1", "--worker-timeout", "36000"]
    server, port, grpc_port = parts.enter_context(emulator(folder, *quiet))
    name = start_job(port)
    stop_workers(server)
    systems = {
        "moto": moto_calls(parts.enter_context(moto())),
        "REST": rest_calls(port),
        "gRPC": grpc_calls(grpc_port, name),
    }
    samplers = {
        f"{call}, {clients} clients, {system}": lambda client=client, clients=clients: burst(client, clients)
        for call in ("create", "get", "list")
        for clients in CLIENTS
        for system, client in ((system, calls[call]) for system, calls in systems.items())
    }
    samples = interleaved(options.rounds, samplers, guard=not options.no_guard)
    rows = []
    for what, bursts in samples.items():
        base = samples[f"{what.rpartition(', ')[0]}, moto"]
        goal = "<= 0.35 of moto" if ", 1 clients, REST" in what else "-"
        rows.append(row(what, bursts, paired(p50s(bursts), p50s(base)), goal))
    return rows


def p50s(bursts: Sequence[Burst]) -> list[float]:
    return [burst.p50 for burst in bursts]


def row(what: str, bursts: Sequence[Burst], ratio: float | str, goal: str) -> dict[str, object]:
    p50, p99 = median(p50s(bursts)), median([b.p99 for b in bursts])
    return {
        "what": what.replace(" 1 clients", " 1 client"),
        "p50 ms": p50,
        "p99 ms": p99,
        "ratio": ratio,
        "goal": goal,
    }


def compare_lists(options: Any, folder: Path, parts: ExitStack) -> list[dict[str, object]]:
    clients = {}
    for count in (FEW_JOBS, MANY_JOBS):
        fill(folder / str(count), count)
        _, port, _ = parts.enter_context(emulator(folder / str(count), "--workers", "1"))
        request = http_request("GET", f"/v1/{PARENT}/batchPredictionJobs?pageSize=10")

        def client(port: int = port, request: bytes = request) -> Call:
            http = Http(port)
            return lambda: http.send(request)

        clients[f"list of 10, {count} jobs"] = lambda client=client: burst(client, 1)
    samples = interleaved(options.rounds, clients, guard=not options.no_guard)
    few, many = samples.values()
    names = list(samples)
    return [row(names[0], few, 1.0, "-"), row(names[1], many, paired(p50s(many), p50s(few)), "<= 1.5")]


def get_while_busy(options: Any, folder: Path, parts: ExitStack) -> list[dict[str, object]]:
    write_clips(folder / "buckets" / "bucket", count=64, seconds=600)
    _, port, _ = parts.enter_context(emulator(folder, "--workers", str(os.cpu_count() or 1)))
    name = start_job(port)
    time.sleep(3)  # every worker is at it
    http, request = Http(port), http_request("GET", f"/v1/{name}")
    bursts = []
    for _ in range(options.rounds):
        took = []
        for _ in range(CALLS):
            started = time.perf_counter()
            body = http.send(request)
            took.append(1000 * (time.perf_counter() - started))
            time.sleep(0.005)
        bursts.append(percentiles(took))
    if json.loads(body)["state"] != "JOB_STATE_RUNNING":
        raise SystemExit("The job ended too soon to say anything.")
    return [row("get while a job keeps every core busy", bursts, "-", "p99 <= 25 ms")]


def main() -> None:
    options = arguments(__doc__)
    rows = []
    for measure in (compare_calls, compare_lists, get_while_busy):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as parts:
            rows += measure(options, Path(folder) / "data", parts)
    report("API calls", rows, options.json)


if __name__ == "__main__":
    main()
