"""`python -m emulator.testing CONFIG`: the server that `serve` starts; it ends with the process that did.

The first line of its output says where it listens, as JSON.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Serve until a signal comes, or standard input ends because nobody holds its other end any more."""
    from emulator import logs
    from emulator.app import CannotStart, Emulator
    from emulator.config import load_settings

    loaded = load_settings(environ={}, config_file=Path(sys.argv[1]))
    settings = loaded.settings
    layout = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    # Not gathered: whoever shows the log of a test that failed wants its last line.
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
    # Not through sys.stdin: this thread would hold its lock while the interpreter ends, which then aborts.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
