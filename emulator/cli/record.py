"""`vertex-emulator record`: turns a finished job into a seed folder that returns the same predictions."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli.options import PATH, read_settings
from emulator.cli.terminal import fail

if TYPE_CHECKING:
    from emulator.recording import Finished

_MOST_BYTES = 256 << 20
_TIMEOUT_S = 60
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(record)


def record(
    to: Annotated[Path, typer.Option("--to", metavar=PATH, help="The folder to write; not there yet.")],
    job: Annotated[
        str | None,
        typer.Argument(
            help="Fetch this job: projects/P/locations/L/batchPredictionJobs/ID; with --server, ID will do."
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", help="Fetch from this emulator instead of Google's own service."),
    ] = None,
    job_file: Annotated[
        Path | None, typer.Option("--job", metavar=PATH, help="The job's resource as a JSON file.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", metavar=PATH, help="A copy of its output directory.")
    ] = None,
    input_files: Annotated[
        list[Path] | None,
        typer.Option("--input", metavar=PATH, help="A copy of its input file. Repeatable, in their order."),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="GS=GS", help="Replace the beginning of gs:// names. Repeatable."),
    ] = None,
    project: Annotated[str, typer.Option(help="The project that replaces the job's.")] = "recorded",
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Leave the names of projects and buckets as they are.")
    ] = False,
    shift: Annotated[str, typer.Option(help="Move the job's times: -30d, 12h, 90m.")] = "0s",
    pace: Annotated[
        float | None, typer.Option(help="New jobs take so many times as long as this one did; 0.01, say.")
    ] = None,
    objective: Annotated[
        str, typer.Option(help="object_tracking, action_recognition or classification, if nothing tells.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before Google is called.")] = False,
) -> None:
    """Record a finished job: its files, and a canned model that answers the same again.

    Give the files (--job, --output-dir, --input), and nothing is called; or a job's name, which is fetched
    from Google with your own credentials, or from --server.
    """
    from emulator.recording import CannotRecord, Options, record

    options = Options(project, _prefixes(maps or []), keep_names, _shift(shift), pace, objective)
    try:
        if job is None:
            finished = _from_files(job_file, output_dir, input_files or [])
        elif job_file or output_dir or input_files:
            fail("Give either a job's name or files, not both.")
        else:
            finished = _fetch(*_found(job, server, yes=yes))
        changes = record(finished, options, to)
    except CannotRecord as error:
        fail(str(error))
    for change in changes:
        typer.echo(f"changed: {change}")
    typer.echo(f"The recording is in {to}. Serve it: vertex-emulator serve --seed-dir {to}")


def _from_files(job: Path | None, output_dir: Path | None, inputs: list[Path]) -> "Finished":
    from emulator.recording import CannotRecord, Finished

    if job is None or output_dir is None:
        fail("Name the job to fetch, or give its files with --job and --output-dir.")
    resource = _json_of(job)
    if not output_dir.is_dir():
        fail(f"--output-dir is {output_dir}, which is no folder. Copy the job's output directory there.")
    outputs = {path.name: _bytes_of(path) for path in sorted(output_dir.iterdir()) if path.is_file()}
    uris = _input_uris(resource)
    if len(inputs) > len(uris) and not any("*" in uri for uri in uris):
        raise CannotRecord(f"The job has {len(uris)} input files, and {len(inputs)} are given with --input.")
    named = {_uri_of(path, position, uris): _bytes_of(path) for position, path in enumerate(inputs)}
    return Finished(resource, outputs, named, output_dir.resolve().name, f"{job} and {output_dir}")


def _uri_of(path: Path, position: int, uris: list[str]) -> str:
    """Return an input file's gs:// name. If the job names it by a wildcard, the file's own name is used."""
    uri = uris[min(position, len(uris) - 1)]
    return f"{uri.rpartition('/')[0]}/{path.name}" if "*" in uri else uri


def _fetch(job: str, cloud: "_Cloud") -> "Finished":
    from emulator.recording import Finished

    resource = cloud.json(f"{cloud.vertex}/v1/{job}")
    directory = str(resource.get("outputInfo", {}).get("gcsOutputDirectory", ""))
    outputs = cloud.objects(f"{directory.rstrip('/')}/") if directory else {}
    inputs: dict[str, bytes] = {}
    for uri in _input_uris(resource):
        prefix, wildcard, _ = uri.partition("*")
        inputs |= cloud.objects(prefix, whole=not wildcard)
    names = {uri.rpartition("/")[2]: data for uri, data in outputs.items()}
    return Finished(resource, names, inputs, origin=f"{job} at {cloud.vertex}")


def _input_uris(resource: Mapping[str, Any]) -> list[str]:
    source = resource.get("inputConfig", {}).get("gcsSource", {})
    return [str(uri) for uri in source.get("uris", [])]


class _Cloud:
    """A client that reads Vertex and Cloud Storage with one token."""

    def __init__(self, vertex: str, storage: str, token: str | None) -> None:
        self.vertex = vertex
        self._storage = storage
        self._token = token

    def json(self, url: str) -> dict[str, Any]:
        value = json.loads(self._get(url))
        return value if isinstance(value, dict) else {}

    def objects(self, prefix: str, *, whole: bool = False) -> dict[str, bytes]:
        """Return the objects whose gs:// names begin with `prefix`, or are `prefix` if `whole`, by name."""
        bucket, _, name = prefix.removeprefix("gs://").partition("/")
        found: dict[str, bytes] = {}
        page: str | None = ""
        while page is not None:
            query = urllib.parse.urlencode({"prefix": name, "pageToken": page})
            answer = self.json(f"{self._storage}/storage/v1/b/{bucket}/o?{query}")
            for item in answer.get("items", []):
                if not whole or item["name"] == name:
                    quoted = urllib.parse.quote(item["name"], safe="")
                    url = f"{self._storage}/storage/v1/b/{bucket}/o/{quoted}?alt=media"
                    found[f"gs://{bucket}/{item['name']}"] = self._get(url)
            page = answer.get("nextPageToken")
        return found

    def _get(self, url: str) -> bytes:
        request = urllib.request.Request(url)
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                data: bytes = response.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                fail(f"{url} was refused ({error.code}): {error.read(2000).decode(errors='replace').strip()}")
        except OSError as error:
            fail(f"{url} does not answer: {getattr(error, 'reason', error)}.")
        if len(data) > _MOST_BYTES:
            fail(f"{url} is larger than {_MOST_BYTES >> 20} MiB, the most that is recorded.")
        return data


def _found(job: str, server: str | None, *, yes: bool) -> tuple[str, _Cloud]:
    """Return a job's resource name and the service that has it. With --server, the job's id suffices."""
    if server is None or not job.isdecimal():
        return job, _cloud(job, server, yes=yes)
    url = server.rstrip("/")
    cloud = _Cloud(url, url, read_settings({}).settings.auth_token)
    return str(cloud.json(f"{url}/_emulator/jobs/{job}/explain")["job"]["name"]), cloud


def _cloud(job: str, server: str | None, *, yes: bool) -> _Cloud:
    from emulator.vertex.errors import InvalidArgument
    from emulator.vertex.names import BatchPredictionJobName

    try:
        location = BatchPredictionJobName.parse(job).location
    except InvalidArgument as error:
        fail(error.message)
    if server is not None:
        return _Cloud(server.rstrip("/"), server.rstrip("/"), read_settings({}).settings.auth_token)
    vertex, storage = f"https://{location}-aiplatform.googleapis.com", "https://storage.googleapis.com"
    question = f"This calls {vertex} and {storage} with your own Google credentials, and reads only. Go on?"
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    return _Cloud(vertex, storage, _google_token())


def _google_token() -> str:
    """Return an access token of the account that is logged in to gcloud."""
    command = ["gcloud", "auth", "print-access-token"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        fail(
            "gcloud is not installed, which gives the credentials. Install it and log in, or copy the job's"
            " files and give them with --job and --output-dir."
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or error
        fail(f"gcloud gives no credentials: {str(said).strip()}. Log in with `gcloud auth login`.")
    return found.stdout.strip()


def _prefixes(maps: list[str]) -> dict[str, str]:
    found = {}
    for text in maps:
        old, separator, new = text.partition("=")
        if not separator or not old.startswith("gs://") or not new.startswith("gs://"):
            fail(f"--map is {text!r}; write it as gs://old=gs://new.")
        found[old] = new
    return found


def _shift(text: str) -> timedelta:
    found = re.fullmatch(r"([+-]?\d{1,9})([smhd])", text)
    if not found:
        fail(f"--shift is {text!r}; write it as -30d, 12h, 90m or 45s.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _json_of(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_bytes_of(path))
    except (ValueError, RecursionError) as error:
        fail(f"{path} is no JSON: {error}.")
    if not isinstance(value, dict):
        fail(f"{path} is no JSON object. Save the job as `gcloud ai` or GET shows it.")
    return value


def _bytes_of(path: Path) -> bytes:
    from emulator.files import cause, read_bounded

    try:
        return read_bounded(path, _MOST_BYTES)
    except OSError as error:
        fail(f"{path} cannot be read: {cause(error)}.")
