"""`python -m emulator.testing CONFIG` runs the server that `serve` starts. It ends with its parent process.

The first line of its output is JSON with the addresses at which it listens.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Serve until a signal arrives, or until standard input ends because the parent process is gone."""
    from emulator import logs
    from emulator.app import CannotStart, Emulator
    from emulator.config import load_settings

    loaded = load_settings(environ={}, config_file=Path(sys.argv[1]))
    settings = loaded.settings
    layout = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    # Not buffered: the log of a failed test must show the last line.
    logs.set_up(settings.log_level, layout, settings.log_format)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    emulator = Emulator(loaded.settings)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        emulator.run(on_ready=lambda: _announce(emulator.url, emulator.grpc_address, emulator.tls_address))
    except CannotStart as error:
        sys.exit(str(error))


def _announce(url: str, grpc: str | None, tls: str | None) -> None:
    sys.stdout.write(json.dumps({"url": url, "grpc": grpc, "tls": tls}) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    # Not through sys.stdin: this thread would hold its lock while the interpreter exits, which would abort.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
