"""`vertex-emulator jobs`: works with the jobs of a running server, over its REST surface."""

import json
import os
import shutil
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from emulator.cli.help import Cli
from emulator.cli.models import complete_models
from emulator.cli.options import PATH
from emulator.cli.remote import Refused, Server, ServerOption, Unreachable
from emulator.cli.terminal import Progress, fail, print_table, progress, warn
from emulator.vertex.names import console_path

cli = Cli(help="Batch prediction jobs of a running server.")

SUCCEEDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED")
#: Exit statuses of `jobs wait` by the final state of the job.
EXIT_STATUSES = {"JOB_STATE_FAILED": 3, "JOB_STATE_CANCELLED": 4, "JOB_STATE_EXPIRED": 5}
OTHER_STATE, TIMED_OUT = 6, 124
# The timeout of one long poll; the progress is requested between polls.
_LONGEST_POLL_S = 1.0
_COMPLETED = 50
_ENDED = "ended"


def complete_jobs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of jobs, newest first, for the shell's completion; none if no server answers."""
    project = ctx.params.get("project") or os.environ.get("GOOGLE_CLOUD_PROJECT")
    location = ctx.params.get("location") or "us-central1"
    if not project:
        return []
    path = f"v1/projects/{project}/locations/{location}/batchPredictionJobs?pageSize={_COMPLETED}"
    try:
        found = Server(ctx.params.get("server")).ask("GET", path, timeout_s=2.0)
    except (Refused, Unreachable, typer.Exit):
        return []
    jobs = [(job["name"].rpartition("/")[2], job) for job in found.get("batchPredictionJobs", [])]
    return [
        (number, f"{job.get('displayName', '')} {_short(job['state'])}")
        for number, job in jobs
        if number.startswith(incomplete)
    ]


ProjectOption = Annotated[
    str | None, typer.Option("--project", help="Project id or number; by default $GOOGLE_CLOUD_PROJECT.")
]
LocationOption = Annotated[str, typer.Option("--location", help="Location of the jobs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the server's JSON.")]
JobArgument = Annotated[
    str,
    typer.Argument(
        help="A job's full resource name, or its id.", metavar="JOB", autocompletion=complete_jobs
    ),
]


@cli.command("list")
def list_jobs(
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
    filter_: Annotated[
        str,
        typer.Option("--filter", help="A filter as the API takes it, such as 'state=\"JOB_STATE_FAILED\"'."),
    ] = "",
    limit: Annotated[int, typer.Option(help="How many jobs at the most, newest first.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    found = _list(Server(server), f"{_parent(project, location)}/batchPredictionJobs", filter_, limit)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if not found:
        typer.echo(f"No jobs in {_parent(project, location)}.")
        return
    rows = [
        (
            job["name"].rpartition("/")[2],
            job.get("displayName", ""),
            job.get("modelDisplayName", ""),
            _short(job["state"]),
            job["createTime"][:19].replace("T", " "),
            _counts(job),
        )
        for job in found
    ]
    print_table(("job", "display name", "model", "state", "created", "done/failed/left"), rows)


@cli.command()
def create(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's id, or its full resource name.", metavar="MODEL", autocompletion=complete_models
        ),
    ],
    inputs: Annotated[
        list[str], typer.Argument(help="gs:// names of JSONL files of instances.", metavar="INPUT")
    ],
    output: Annotated[str, typer.Option("--output", help="gs:// name of the folder for the results.")],
    display_name: Annotated[str, typer.Option("--display-name", help="Display name.")] = "",
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            metavar="NAME=VALUE",
            help="A model parameter, such as confidenceThreshold=0.5. Repeatable.",
        ),
    ] = None,
    wait_: Annotated[
        bool, typer.Option("--wait", help="Wait for the job's end, and leave as `jobs wait` does.")
    ] = False,
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
) -> None:
    """Create a job; its resource name goes to standard output."""
    emulator, parent = Server(server), _parent(project, location)
    body = {
        "displayName": display_name or model.rpartition("/")[2],
        "model": model if "/" in model else f"{parent}/models/{model}",
        "modelParameters": _parameters(parameters or []),
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": inputs}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": output}},
    }
    name = emulator.call("POST", f"{parent}/batchPredictionJobs", body=body)["name"]
    typer.echo(name)
    typer.echo(f"Console: {emulator.url}{console_path(name)}", err=True)
    if wait_:
        _wait(emulator, name, _ENDED, None)


@cli.command()
def describe(
    job: JobArgument,
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
) -> None:
    """Print a job as the API gives it."""
    emulator = Server(server)
    answer = emulator.call("GET", _job_name(emulator, job, project, location))
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    # To standard error, so that standard output is JSON only.
    typer.echo(f"Console: {emulator.url}{console_path(answer['name'])}", err=True)


@cli.command()
def explain(job: JobArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Tell what happened to a job, step by step, and how far it is."""
    found = _explained(Server(server), job)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    shown = found["job"]
    typer.echo(f"{shown['name']} is {shown['state']}.")
    if (text := _progress_text(found)) and "endTime" not in shown:
        typer.echo(text)
    for line in _reasons(shown):
        typer.echo(line)
    print_table(("time", "step", ""), [(step["time"], step["step"], step["text"]) for step in found["steps"]])
    for field in found["notHonoured"]:
        typer.echo(f"{field['field']} is {field['fidelity']}: {field['note']}")


@cli.command()
def output(
    job: JobArgument,
    to: Annotated[
        Path | None, typer.Option("--to", metavar=PATH, help="Folder to copy the job's files into.")
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Print the lines of the errors file instead.")
    ] = False,
    server: ServerOption = None,
) -> None:
    """Print the predictions of a job, one JSON line per instance, or copy its files."""
    emulator = Server(server)
    if to is not None:
        typer.echo(f"{copy_output(emulator, job, to)} files in {to}.")
        return
    shown, names = _output_of(emulator, job)
    kind = "errors_" if errors else "predictions_"
    for bucket, name in names:
        if name.rpartition("/")[2].startswith(kind):
            with _object(emulator, bucket, name) as content:
                shutil.copyfileobj(content, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    failed = int(shown.get("completionStats", {}).get("failedCount", "0"))
    if failed and not errors:
        warn(f"{failed} instances failed; --errors prints why.")


@cli.command()
def cancel(
    job: JobArgument,
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
) -> None:
    """Cancel a job; files it has already written stay."""
    emulator = Server(server)
    name = _job_name(emulator, job, project, location)
    emulator.call("POST", f"{name}:cancel")
    typer.echo(f"{name} is {emulator.call('GET', name)['state']}.")


@cli.command()
def wait(
    job: JobArgument,
    server: ServerOption = None,
    state: Annotated[str, typer.Option(help="A state such as RUNNING, or several with commas.")] = _ENDED,
    timeout: Annotated[
        float | None, typer.Option(help="How many seconds to wait; by default as long as it takes.", min=0)
    ] = None,
    project: Annotated[str | None, typer.Option("--project", hidden=True)] = None,
    location: Annotated[str, typer.Option("--location", hidden=True)] = "us-central1",
) -> None:
    """Wait until a job has ended, or is in a state.

    The exit status is 0 for a job that succeeded or is in the state, 3 for one that failed, 4 for one that
    was cancelled, 5 for one that expired, 6 for one that ended in another state than the one waited for, and
    124 if the timeout expires first.
    """
    del project, location  # the server finds a job by its id alone
    _wait(Server(server), job, state, timeout)


def _wait(emulator: Server, job: str, state: str, timeout_s: float | None) -> None:
    """Wait for a job, print its state, and exit with the status for it."""
    with progress("Waiting for the job") as shown:
        answer = _awaited(emulator, job, state, timeout_s, shown)
    if answer is None:
        found = _explained(emulator, job)["job"]
        fail(f"{found['name']} is still {found['state']} after {timeout_s:g} s.", TIMED_OUT)
    if state != _ENDED:
        typer.echo(f"{answer['job']} is {answer['state']}.")
        return
    found = _explained(emulator, job)["job"]
    typer.echo(f"{found['name']} is {found['state']}.")
    for line in _reasons(found):
        typer.echo(line, err=True)
    if found["state"] not in SUCCEEDED:
        raise typer.Exit(EXIT_STATUSES.get(found["state"], OTHER_STATE))


def _awaited(
    emulator: Server, job: str, state: str, timeout_s: float | None, shown: Progress
) -> dict[str, Any] | None:
    """Return the server's answer once the job is in the state; None if the timeout expires first."""
    path = f"_emulator/jobs/{urllib.parse.quote(job.rpartition('/')[2], safe='')}/wait"
    while True:
        left_s = _LONGEST_POLL_S if timeout_s is None else max(0.0, timeout_s - shown.elapsed_s)
        query = urllib.parse.urlencode({"state": state, "timeout": f"{min(left_s, _LONGEST_POLL_S):.3f}"})
        try:
            return emulator.ask("GET", f"{path}?{query}")
        except Refused as error:
            status = error.answer["error"]["status"] if isinstance(error.answer, dict) else ""
            if status != "DEADLINE_EXCEEDED":
                fail(str(error), OTHER_STATE if status == "FAILED_PRECONDITION" else 1)
        except Unreachable as error:
            fail(f"{error}. Start one with `vertex-emulator serve`, or name it with --server.")
        if timeout_s is not None and shown.elapsed_s >= timeout_s:
            return None
        _show(shown, _explained(emulator, job))


def _show(shown: Progress, found: Mapping[str, Any]) -> None:
    fraction = found.get("progress", {}).get("fraction")
    shown.update(fraction, detail=_progress_text(found), task=_short(found["job"]["state"]))


def _progress_text(found: Mapping[str, Any]) -> str:
    """Return a job's progress in words: instances, frames, rate."""
    stats = found["job"].get("completionStats")
    if stats is None:
        return ""
    done, failed = int(stats.get("successfulCount", "0")), int(stats.get("failedCount", "0"))
    left = int(stats.get("incompleteCount", "0"))
    parts = [f"{done + failed} of {done + failed + left} instances" if left >= 0 else "input not read yet"]
    frames = found.get("progress", {})
    if frames.get("framesDone"):
        some = f"{frames['framesDone']} frames"
        parts.append(f"{some}, about {frames['framesLeft']} left" if "framesLeft" in frames else some)
    if frames.get("framesPerSecond"):
        parts.append(f"{frames['framesPerSecond']:g} frames/s")
    return ", ".join(parts)


def _reasons(job: Mapping[str, Any]) -> list[str]:
    """Return the reasons why a job failed, or some of its instances did."""
    error = job.get("error", {}).get("message", "")
    return [*([error] if error else []), *(one.get("message", "") for one in job.get("partialFailures", ()))]


def _explained(emulator: Server, job: str) -> dict[str, Any]:
    return emulator.call("GET", f"jobs/{job.rpartition('/')[2]}/explain", "_emulator")


def copy_output(emulator: Server, job: str, folder: Path) -> int:
    """Copy a job's output files into a folder and return their number. Exit with an error on failure."""
    _, names = _output_of(emulator, job)
    _copy(emulator, names, folder)
    return len(names)


def _output_of(emulator: Server, job: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return a job and its output files as (bucket, name)."""
    shown = _explained(emulator, job)["job"]
    directory = shown.get("outputInfo", {}).get("gcsOutputDirectory", "")
    if not directory:
        why = " ".join(_reasons(shown)) or "It has written nothing yet: wait for it with `jobs wait`."
        fail(f"{shown['name']} is {shown['state']} and has no output. {why}")
    return shown, _output_files(emulator, directory)


def _output_files(emulator: Server, directory: str) -> list[tuple[str, str]]:
    """Return the files in an output directory as (bucket, name)."""
    bucket, _, prefix = directory.removeprefix("gs://").partition("/")
    listing = f"storage/v1/b/{urllib.parse.quote(bucket, safe='')}/o"
    names: list[str] = []
    token = ""
    try:
        while True:
            query = urllib.parse.urlencode({"prefix": f"{prefix.rstrip('/')}/", "pageToken": token})
            page = emulator.ask("GET", f"{listing}?{query}")
            names += [item["name"] for item in page.get("items", ())]
            token = page.get("nextPageToken", "")
            if not token:
                break
    except Refused as error:
        fail(f"{error} {_ELSEWHERE}")
    except Unreachable as error:
        fail(str(error))
    if not names:
        fail(f"{directory} holds nothing. {_ELSEWHERE}")
    return [(bucket, name) for name in sorted(names)]


_ELSEWHERE = "If the server keeps the buckets of its jobs at a Cloud Storage endpoint, read the files there."


def _object(emulator: Server, bucket: str, name: str) -> Any:
    quoted = (urllib.parse.quote(part, safe="") for part in (bucket, name))
    return emulator.open("GET", "storage/v1/b/{}/o/{}?alt=media".format(*quoted))


def _copy(emulator: Server, names: Sequence[tuple[str, str]], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for bucket, name in names:
            with (
                _object(emulator, bucket, name) as content,
                (folder / name.rpartition("/")[2]).open("wb") as file,
            ):
                shutil.copyfileobj(content, file)
    except OSError as error:
        fail(f"The files cannot be written to {folder}: {error}. Name another folder with --to.")
    except (Refused, Unreachable) as error:
        fail(str(error))


def _parameters(pairs: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            fail(f"--parameter {pair!r}: write it as NAME=VALUE, for example confidenceThreshold=0.5")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _list(server: Server, path: str, filter_: str, limit: int) -> list[dict[str, Any]]:
    return [job for page in _pages(server, path, filter_, limit) for job in page]


def _pages(server: Server, path: str, filter_: str, limit: int) -> Iterator[list[dict[str, Any]]]:
    token, left = "", limit
    while left > 0:
        page = server.call("GET", path, filter=filter_, pageSize=str(min(100, left)), pageToken=token)
        jobs = page.get("batchPredictionJobs", [])
        yield jobs
        left -= len(jobs)
        token = page.get("nextPageToken", "")
        if not token:
            return


def _parent(project: str | None, location: str) -> str:
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        fail("No project is named; give --project, or set GOOGLE_CLOUD_PROJECT.")
    return f"projects/{project}/locations/{location}"


def _job_name(emulator: Server, job: str, project: str | None, location: str) -> str:
    """Return a job's resource name. Without a project, the server is asked for the job with this id."""
    if job.startswith("projects/"):
        return job
    if project is None:
        return str(_explained(emulator, job)["job"]["name"])
    return f"{_parent(project, location)}/batchPredictionJobs/{job}"


def _short(state: str) -> str:
    return state.removeprefix("JOB_STATE_")


def _counts(job: dict[str, Any]) -> str:
    stats = job.get("completionStats", {})
    left = stats.get("incompleteCount", "0")
    return (
        f"{stats.get('successfulCount', '0')}/{stats.get('failedCount', '0')}/{'?' if left == '-1' else left}"
    )
