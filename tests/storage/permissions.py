"""Programs that permissions stop, whoever runs the tests: root passes over them."""

import os
import shutil
import sys

import pytest

_WITHOUT = "--bounding-set=-dac_override,-dac_read_search"


def unprivileged(program: str, *arguments: str) -> list[str]:
    """The command that runs a Python program in such a process. Skips where root cannot make one."""
    command = [sys.executable, "-c", program, *arguments]
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root needs `setpriv` to run a program that permissions stop")
    return [setpriv, _WITHOUT, *command]
