"""The server that a test starts ends with status 0 and without a crash in its log."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("way", ["signal", "parent"])
def test_server_ends_with_status_0(tmp_path: Path, way: str) -> None:
    config = tmp_path / "emulator.toml"
    config.write_text(f'port = 0\ndata_dir = "{tmp_path}"\nworkers = 1\nbundled_models = false\n')
    command = [sys.executable, "-m", "emulator.testing", str(config)]
    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"{"), "it says where it listens"
        if way == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "Fatal Python error" not in log.read_text()


def test_server_ends_whichever_thread_takes_the_signal(tmp_path: Path) -> None:
    program = f"""
import signal, threading, time
from pathlib import Path
from emulator.app import Emulator
from emulator.config import Settings

def end():
    time.sleep(0.5)  # The main thread waits by now.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

settings = Settings(port=0, data_dir=Path({str(tmp_path)!r}), workers=1, bundled_models=False, grpc=False)
Emulator(settings).run(on_ready=threading.Thread(target=end).start)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
