"""`vertex-emulator jobs`: list, describe and cancel the jobs of a running server, over its REST surface."""

import json
import os
from typing import Annotated, Any

import typer

from emulator.cli.remote import Server, ServerOption
from emulator.cli.terminal import fail, print_table

cli = typer.Typer(help="Batch prediction jobs of a running server.", no_args_is_help=True)

ProjectOption = Annotated[
    str | None, typer.Option("--project", help="Project id or number; by default $GOOGLE_CLOUD_PROJECT.")
]
LocationOption = Annotated[str, typer.Option("--location", help="Location of the jobs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
JobArgument = Annotated[str, typer.Argument(help="A job's full resource name, or its id.", metavar="JOB")]


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
            job["state"].removeprefix("JOB_STATE_"),
            job["createTime"][:19].replace("T", " "),
            _counts(job),
        )
        for job in found
    ]
    print_table(("job", "display name", "model", "state", "created", "done/failed/left"), rows)


@cli.command()
def describe(
    job: JobArgument,
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
) -> None:
    """Print a job as the API gives it."""
    answer = Server(server).call("GET", _job_name(job, project, location))
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


@cli.command()
def cancel(
    job: JobArgument,
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
) -> None:
    """Cancel a job; files it has already written stay."""
    emulator, name = Server(server), _job_name(job, project, location)
    emulator.call("POST", f"{name}:cancel")
    typer.echo(f"{name} is {emulator.call('GET', name)['state']}.")


@cli.command()
def wait(
    job: JobArgument,
    server: ServerOption = None,
    project: ProjectOption = None,
    location: LocationOption = "us-central1",
    state: Annotated[str, typer.Option(help="A state such as RUNNING, or several with commas.")] = "ended",
    timeout: Annotated[int, typer.Option(help="How many seconds to wait.", min=0, max=60)] = 60,
) -> None:
    """Wait until a job has ended, or is in a state; no polling."""
    name = _job_name(job, project, location)
    path = f"jobs/{name.rpartition('/')[2]}/wait"
    answer = Server(server).call("GET", path, "_emulator", state=state, timeout=str(timeout))
    # The server finds the job by its id alone: another project than was named may be its own.
    typer.echo(f"{answer['job']} is {answer['state']}.")


def _list(server: Server, path: str, filter_: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while len(found) < limit:
        page = server.call(
            "GET", path, filter=filter_, pageSize=str(min(100, limit - len(found))), pageToken=token
        )
        found += page.get("batchPredictionJobs", [])
        token = page.get("nextPageToken", "")
        if not token:
            break
    return found


def _parent(project: str | None, location: str) -> str:
    project = project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        fail("No project is named; give --project, or set GOOGLE_CLOUD_PROJECT.")
    return f"projects/{project}/locations/{location}"


def _job_name(job: str, project: str | None, location: str) -> str:
    return job if job.startswith("projects/") else f"{_parent(project, location)}/batchPredictionJobs/{job}"


def _counts(job: dict[str, Any]) -> str:
    stats = job.get("completionStats", {})
    left = stats.get("incompleteCount", "0")
    return (
        f"{stats.get('successfulCount', '0')}/{stats.get('failedCount', '0')}/{'?' if left == '-1' else left}"
    )
