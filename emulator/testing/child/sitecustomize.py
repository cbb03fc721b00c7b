"""Runs first in each Python program that a test starts: see `emulator.testing.children`.

Its folder comes first on PYTHONPATH, so it also runs the `sitecustomize` that it hides.
"""

import contextlib
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _run_hidden() -> None:
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


def _begin() -> None:
    root = str(_HERE.parents[2])
    sys.path.append(root)
    try:
        # Another interpreter may be too old for the module, or unable to import it.
        with contextlib.suppress(ImportError, SyntaxError):
            from emulator.testing.children import begin

            begin(os.environ)
    finally:
        sys.path.remove(root)


_begin()
_run_hidden()
