"""Two hosts on one cable, made of Linux network namespaces; neither has a way to anything else."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "emulator-test"
# TEST-NET-1: addresses that no real network has.
SERVER_ADDRESS = "192.0.2.1"
_CLIENT_ADDRESS = "192.0.2.2"


@dataclass(frozen=True)
class Network:
    """The names of the two namespaces."""

    server: str
    client: str

    def on_server(self, *command: str | Path) -> list[str]:
        """Return what runs a command on the server's host."""
        return ["ip", "netns", "exec", self.server, *map(str, command)]

    def on_client(self, hosts: Path, *command: str | Path) -> list[str]:
        """Return what runs a command on the client's host, where `hosts` lies over /etc/hosts."""
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        shell = ["unshare", "--mount", "sh", "-c", script, hosts]
        return ["ip", "netns", "exec", self.client, *map(str, [*shell, *command])]


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make the two hosts; they are gone afterwards, with every process that still runs on them.

    Raises:
        subprocess.CalledProcessError: the system does not allow it; `stderr` says why.
    """
    remove_left_behind()
    made = Network(*(f"{_PREFIX}-{os.getpid()}-{side}" for side in ("server", "client")))
    try:
        _ip("netns", "add", made.server)
        _ip("netns", "add", made.client)
        cable = ["type", "veth", "peer", "name", "eth0", "netns", made.client]
        _ip("-n", made.server, "link", "add", "eth0", *cable)
        for namespace, address in ((made.server, SERVER_ADDRESS), (made.client, _CLIENT_ADDRESS)):
            _ip("-n", namespace, "address", "add", f"{address}/30", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")
        yield made
    finally:
        for namespace in (made.server, made.client):
            _remove(namespace)


def remove_left_behind() -> None:
    """Remove what a test run that was killed has left."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if name.startswith(f"{_PREFIX}-") and not Path(f"/proc/{owner}").exists():
            _remove(name)


def _remove(namespace: str) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):
        for pid in _ip("netns", "pids", namespace).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _ip("netns", "delete", namespace)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
