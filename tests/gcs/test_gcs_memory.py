"""Large objects pass through the server without being held in its memory."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

SIZE_MIB = 512
PROGRAM = """
import sys
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings

settings = Settings(port=0, data_dir=Path(sys.argv[1]), bundled_models=False, workers=1, grpc=False)
with Emulator(settings) as emulator:
    print(emulator.url, flush=True)
    sys.stdin.read()
"""


def peak_mib(pid: int) -> int:
    """The most memory the process has ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_large_object_passes_with_constant_memory(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        url = httpx.URL(process.stdout.readline().strip())
        with httpx.Client(base_url=url, trust_env=False, timeout=120) as http:
            http.post("/storage/v1/b", json={"name": "large"})
            piece = bytes(range(256)) * 4096
            upload = "/upload/storage/v1/b/large/o?uploadType=media&name="
            http.post(f"{upload}warm-up", content=piece)
            before = peak_mib(process.pid)
            response = http.post(f"{upload}object", content=(piece for _ in range(SIZE_MIB)))
            assert response.json()["size"] == str(SIZE_MIB << 20)
            with http.stream("GET", "/large/object") as download:
                assert sum(map(len, download.iter_raw())) == SIZE_MIB << 20
            target = "/storage/v1/b/large/o"
            http.post(f"{target}/object/rewriteTo/b/large/o/copy").raise_for_status()
            http.get(f"{target}/copy").raise_for_status()
            stall(url)
        assert peak_mib(process.pid) - before < 40
    finally:
        process.stdin.close()
        assert process.wait(60) == 0
        process.stdout.close()


def stall(url: httpx.URL) -> None:
    """Ask for the object, and read next to nothing of it."""
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        connection.sendall(b"GET /large/object HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20):
            connection.recv(1000)
