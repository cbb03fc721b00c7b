"""`vertex-emulator data`: checks and copies what a server keeps, and removes what is old."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.help import Cli
from emulator.cli.options import with_settings
from emulator.cli.terminal import fail, print_table, warn
from emulator.config import LoadedSettings, SettingError, Settings

if TYPE_CHECKING:
    from emulator.storage import ObjectStore
    from emulator.upkeep.check import Report

cli = Cli(help="The data of a server, which may run meanwhile.")

_PLACES = ("data_dir", "storage_dir", "database_url")
_STORAGE = (*_PLACES, "gcs_endpoint", "gcs_buckets", "gcs_allow_google")
_UNITS_US = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 7 * 86_400_000_000}
_AGE = re.compile(r"(\d{1,6})([mhdw])")
_JSON = "Print JSON."

JsonOption = Annotated[bool, typer.Option("--json", help=_JSON)]


def check(as_json: JsonOption = False, *, loaded: LoadedSettings) -> None:
    """Check the database, and its rows against the files. Changes nothing.

    The exit status is 1 if something is wrong.
    """
    from emulator.database import DatabaseUnusable
    from emulator.upkeep.check import check as check_data

    try:
        report = check_data(loaded.settings, _store(loaded.settings))
    except DatabaseUnusable as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        _tell(report)
    raise typer.Exit(1 if report.problems else 0)


def backup(
    target: Annotated[
        Path,
        typer.Argument(
            help="A folder, or a file that ends in .tar, .tar.gz or .tgz; it must not exist.",
            metavar="TARGET",
        ),
    ],
    as_json: JsonOption = False,
    *,
    loaded: LoadedSettings,
) -> None:
    """Copy rows, buckets, models and certificates while the server runs.

    A server starts on the copy: `vertex-emulator serve --data-dir TARGET`.
    """
    from emulator.database import DatabaseUnusable
    from emulator.upkeep.backup import BackupRefused, back_up

    try:
        made = back_up(loaded.settings, target)
    except (BackupRefused, DatabaseUnusable) as error:
        fail(str(error))
    for note in made.notes:
        warn(note)
    if as_json:
        told = {"target": str(made.target), "files": made.files, "bytes": made.bytes, "notes": made.notes}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{made.files} files, {_size(made.bytes)}, in {made.target}.")


def prune(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="As in 30d; m, h, d and w are minutes to weeks."),
    ],
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Also remove the output files of the jobs that go.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
    *,
    loaded: LoadedSettings,
) -> None:
    """Remove the jobs and operations that finished long ago.

    Unfinished jobs, inputs and models stay. The server may run; it answers 404 for a job that is gone.
    """
    from emulator.database import Database, DatabaseUnusable, Inspection, now_us
    from emulator.storage import StorageError
    from emulator.upkeep.prune import prune as prune_data
    from emulator.vertex.errors import ApiError

    before_us = now_us() - _age_us(older_than)
    try:
        Inspection(loaded.settings.database).close()  # creates no database where there is none
        database = Database(loaded.settings.database, migrate=False)
    except DatabaseUnusable as error:
        fail(str(error))
    try:
        store = _store(loaded.settings) if outputs else None
        pruned = prune_data(database, before_us, outputs=store, dry_run=dry_run)
    except (StorageError, ApiError) as error:
        fail(str(error))
    finally:
        database.close()
    if as_json:
        told = {"jobs": pruned.jobs, "operations": pruned.operations, "files": pruned.files}
        typer.echo(json.dumps({**told, "keptFiles": pruned.kept_files, "dryRun": dry_run}, indent=2))
        return
    files = f", {pruned.files} output files" if outputs else ""
    done = "would be removed" if dry_run else "removed"
    typer.echo(f"{pruned.jobs} jobs, {pruned.operations} operations{files} {done}.")
    if pruned.kept_files:
        typer.echo(f"{pruned.kept_files} output files stay: jobs name them as their input.")


def _store(settings: Settings) -> "ObjectStore":
    from emulator.storage import open_store

    try:
        return open_store(settings)
    except SettingError as error:
        fail(str(error))


def _age_us(text: str) -> int:
    found = _AGE.fullmatch(text)
    if found is None:
        fail(f"--older-than: {text!r} is no age; write it as 30d, or with m, h or w.", 2)
    return int(found[1]) * _UNITS_US[found[2]]


def _tell(report: "Report") -> None:
    typer.echo(f"Database: schema version {report.schema_version}, {_jobs(report.jobs)}.")
    for server in report.servers:
        typer.echo(f"A server runs: {server}.")
    print_table(("part", "on the disk"), [(part, _size(size)) for part, size in report.sizes.items()])
    for note in report.notes:
        typer.echo(note)
    if not report.problems:
        typer.echo("Nothing is wrong.")
        return
    typer.echo(f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}:")
    for problem in report.problems:
        typer.echo(f"- {problem.part}: {problem.subject}: {problem.problem}. Remedy: {problem.remedy}.")


def _jobs(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{count} {state.removeprefix('JOB_STATE_')}" for state, count in counts.items())
    return f"jobs: {shown}" if shown else "no jobs"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


cli.command()(with_settings(check, _STORAGE))
cli.command()(with_settings(backup, (*_STORAGE, "models_dirs")))
cli.command()(with_settings(prune, _STORAGE))
