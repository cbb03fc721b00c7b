"""What becomes of uploads and downloads when the server stops."""

import socket
import time
from pathlib import Path

import httpx
import pytest

from emulator.app import Emulator
from emulator.config import Settings


def connect(url: httpx.URL, request: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection((url.host, url.port or 0), timeout=60)
    connection.sendall(request.encode() + body)
    return connection


@pytest.mark.slow
# uvloop says so of a connection whose client never reads what was sent; as an error it would hang the loop.
@pytest.mark.filterwarnings("ignore:unclosed resource:ResourceWarning")
def test_unfinished_uploads_leave_nothing_behind(tmp_path: Path) -> None:
    settings = Settings(port=0, data_dir=tmp_path, bundled_models=False, workers=1)
    bucket = settings.buckets / "bucket"
    bucket.mkdir(parents=True)
    (bucket / "large").write_bytes(bytes(64 << 20))
    with Emulator(settings) as emulator:
        url = httpx.URL(emulator.url)
        upload = "/upload/storage/v1/b/bucket/o"
        session = httpx.post(url.join(f"{upload}?uploadType=resumable&name=a"), trust_env=False).headers[
            "location"
        ]
        part = {"content-range": "bytes 0-262143/262154"}
        assert httpx.put(session, content=bytes(262144), headers=part, trust_env=False).status_code == 308
        head = f"POST {upload}?uploadType=media&name=b HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
        up = connect(url, head, bytes(2_000_000))
        down = connect(url, "GET /bucket/large HTTP/1.1\r\nHost: x\r\n\r\n")
        down.recv(1)
        deadline = time.monotonic() + 60
        while len(list((bucket / ".vbe-tmp").iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        started = time.monotonic()
    assert time.monotonic() - started < 15
    up.close()
    down.close()
    files = {path.relative_to(bucket) for path in bucket.rglob("*") if path.is_file()}
    assert files - {Path(".vbe-meta/bucket.json")} == {Path("large")}
