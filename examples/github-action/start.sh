#!/usr/bin/env bash
# Start the emulator, wait until a worker can take a job, and export the environment of clients to the steps that follow.
set -euo pipefail
folder=$RUNNER_TEMP/vertex-emulator
emulator=$folder/venv/bin/vertex-emulator
export VERTEX_EMULATOR_DATA_DIR=$folder/data
log=$folder/server.log
nohup "$emulator" serve >"$log" 2>&1 </dev/null &
echo "$!" >"$folder/pid"
"$emulator" wait --timeout 120 || { cat "$log" >&2; exit 1; }
# A line per variable, as the runner reads them: none of the values has a line break.
"$emulator" env --shell json --project "$PROJECT" |
  "$folder/venv/bin/python" -c 'import json, sys; [print(f"{name}={value}") for name, value in json.load(sys.stdin).items()]' >>"$GITHUB_ENV"
echo "url=http://127.0.0.1:$VERTEX_EMULATOR_PORT" >>"$GITHUB_OUTPUT"
echo "log=$log" >>"$GITHUB_OUTPUT"
