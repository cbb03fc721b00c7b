"""The `vertex-emulator` command, also as `python -m emulator`; Ctrl-C ends it without a traceback."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


def main() -> NoReturn:
    """Import the command line and run it."""
    # Imports and the interpreter's own end cannot be interrupted cleanly, and have nothing to tidy up.
    signal.signal(signal.SIGINT, _exit)
    from emulator.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    status: object = 0
    try:
        run()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except SystemExit as end:
        status = end.code
    signal.signal(signal.SIGINT, _exit)
    sys.exit(status)  # type: ignore[arg-type]


def _exit(_: int, __: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
