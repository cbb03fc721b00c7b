#!/usr/bin/env bash
# Install $WHEEL into an environment of its own below $RUNNER_TEMP, which the action caches.
set -euo pipefail
venv=$RUNNER_TEMP/vertex-emulator/venv
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet "$WHEEL"
