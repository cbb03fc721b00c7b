"""How throughput grows with Ray nodes of one slot each; `bench_scaling.py` shows it where Ray is installed.

The nodes share this machine, so the model mostly sleeps: the fault `slow-model` delays each of its frames.
What is measured is all the rest: the server, its driver, Ray, and the recording of each video. Goal: eight
nodes do at least 0.9 of eight times what one does, in one run. By itself: `nodes.py --most 16`.
"""

import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_fixture import PARENT, ended
from measure import arguments, own_seconds, report

from emulator.factory import random_clip, render
from emulator.testing import Server, serve
from emulator.testing.control import Faults
from emulator.testing.videos import instance_of

DELAY_MS = 200
VIDEOS_PER_NODE = 12
INSTANCES_PER_VIDEO = 3
GOAL_NODES = 8
PROJECT = PARENT.split("/")[1]
_STORE_BYTES = 80_000_000

Row = dict[str, object]


def by_nodes(folder: Path, most: int = GOAL_NODES) -> Iterator[Row]:
    """Jobs on 1, 2, 4, ... nodes, each with so many videos a node; nothing where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        return
    bucket = folder / "nodes" / "data" / "buckets" / "bucket"
    bucket.mkdir(parents=True)
    render(random_clip(3, size=(160, 120), fps=10, duration=1.0), bucket / "0.mp4")
    for number in range(1, VIDEOS_PER_NODE * most):
        (bucket / f"{number}.mp4").hardlink_to(bucket / "0.mp4")
    base = 0.0
    with cluster() as started:
        nodes = 1
        there = 0
        while nodes <= most:
            for _ in range(nodes - there):
                started.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
            started.wait_for_nodes()
            there = nodes
            rate, cpu_ms, server_ms = measured(folder / "nodes", started.address, nodes)
            base = base or rate
            yield {
                "what": f"{nodes} Ray nodes",
                "videos a second": rate,
                "of linear": rate / base / nodes,
                "CPU ms a video": cpu_ms,
                "the server's": server_ms,
                "goal": ">= 0.9" if nodes == GOAL_NODES else "-",
            }
            nodes *= 2


def measured(folder: Path, address: str, nodes: int) -> tuple[float, float, float]:
    """Videos a second of one job, and CPU milliseconds of a video: of all processes, and of the server."""
    videos = VIDEOS_PER_NODE * nodes
    bucket = folder / "data" / "buckets" / "bucket"
    names = [f"gs://bucket/{number}.mp4" for number in range(videos)] * INSTANCES_PER_VIDEO
    (bucket / f"{nodes}.jsonl").write_text("".join(f"{json.dumps(instance_of(name))}\n" for name in names))
    settings = {"executor": "ray", "ray_address": address, "workers": nodes, "prediction_cache_mb": 0}
    with serve(settings, folder=folder) as server:
        until_s = time.monotonic() + 120
        while server.control.get("info")["workers"]["ready"] < nodes:
            if time.monotonic() > until_s:
                raise SystemExit("Not every node got a worker.")
            time.sleep(0.1)
        # Every worker has loaded the model after this.
        job(server, f"gs://bucket/{nodes}.jsonl", videos)
        faults = Faults(server.control, PROJECT)
        faults.job("slow-model", delay=f"{DELAY_MS}ms")
        cpu, own, wall = own_seconds(), seconds_of(server.process_id), time.perf_counter()
        job(server, f"gs://bucket/{nodes}.jsonl", videos)
        taken = time.perf_counter() - wall
        spent, of_server = own_seconds() - cpu, seconds_of(server.process_id) - own
        faults.remove()
    return videos / taken, 1000 * spent / videos, 1000 * of_server / videos


def job(server: Server, source: str, videos: int) -> None:
    """Run a job, of which every instance must be predicted."""
    done = ended(server, source, "gs://bucket/output")
    if int(done["completionStats"].get("successfulCount", 0)) != videos * INSTANCES_PER_VIDEO:
        raise SystemExit(f"Not every instance was predicted: {done}")


def seconds_of(process: int) -> float:
    """CPU time of one process."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def cluster() -> Iterator[Any]:
    """A cluster whose head has no slot. It ends with the block."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 -- as Ray spells it
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="vbe-ray-", dir="/tmp")
    head = {
        "num_cpus": 0,
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
        "temp_dir": folder,
    }
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield started
    finally:
        started.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    options = arguments(__doc__, most=(GOAL_NODES, "most nodes"))
    with tempfile.TemporaryDirectory() as name:
        rows = list(by_nodes(Path(name), options.most))
    if not rows:
        raise SystemExit("Ray is not installed.")
    report("Throughput by nodes", rows, options.json)


if __name__ == "__main__":
    main()
