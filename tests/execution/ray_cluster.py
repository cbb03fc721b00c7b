"""A Ray cluster on this machine for tests: a head, and nodes that come and go.

Imports Ray only when one is started. Where Ray is missing, the tests that need it are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ADDRESS = "EMULATOR_RAY_ADDRESS"
"""Variable with the address of the cluster that `cluster` has started."""

has_ray = importlib.util.find_spec("ray") is not None
needs_ray = (pytest.mark.ray, pytest.mark.skipif(not has_ray, reason="Ray is not installed: make test-ray"))

_STORE_BYTES = 80_000_000
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class RayCluster:
    """A running cluster; `nodes` of it can be added and removed."""

    cluster: Any

    @property
    def address(self) -> str:
        """The head's address, as `ray_address` takes it."""
        return str(self.cluster.address)

    def add(self, cpus: int = 1, **resources: Any) -> Any:
        """Add a node; returns it once it is registered."""
        node = self.cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES, **resources)
        self.cluster.wait_for_nodes()
        return node

    def kill(self, node: Any) -> None:
        """Kill a node's processes."""
        self.cluster.remove_node(node, allow_graceful=False)

    @staticmethod
    def processes(node: Any) -> list[int]:
        """Process ids of a node: its raylet, and the workers and agents below it."""
        found = [node.all_processes["raylet"][0].process.pid]
        parents = {int(path.name): _parent_of(path) for path in Path("/proc").glob("[0-9]*")}
        for process in found:
            found += [pid for pid, parent in parents.items() if parent == process]
        return found


@contextmanager
def cluster(cpus: int = 4) -> Iterator[RayCluster]:
    """A cluster whose head has that many CPUs. Everything ends with the block."""
    folder = tempfile.mkdtemp(prefix="vbe-ray-", dir="/tmp")  # pytest's own are too long for sockets
    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else it writes a token into the home folder.
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "120",
        # Stores of tests are in modules of theirs.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        from ray.cluster_utils import Cluster

        started = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": cpus,
                "object_store_memory": _STORE_BYTES,
                "include_dashboard": False,
                "temp_dir": folder,
            },
        )
        patched.setenv(ADDRESS, started.address)
        try:
            yield RayCluster(started)
        finally:
            started.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def _parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
