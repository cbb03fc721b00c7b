"""Makes rows older than they are, and runs `vertex-emulator data` on the data of a server."""

import json
from typing import Any

from sqlalchemy import create_engine, text
from typer.testing import CliRunner, Result

from emulator.cli import build
from emulator.config import Settings

_DAY_US = 86_400_000_000
_TIMES = {
    "batch_prediction_jobs": ("create_time_us", "update_time_us", "start_time_us", "end_time_us"),
    "job_steps": ("time_us",),
    "operations": ("create_time_us",),
}


def age(settings: Settings, days: int, *, but: str = "") -> None:
    """Move the times of all rows into the past, but not those of the job with that name."""
    job = int(but.rpartition("/")[2] or 0)
    change(
        settings,
        *(
            f"UPDATE {table} SET {', '.join(f'{name} = {name} - {days * _DAY_US}' for name in times)}"
            f" WHERE {'job_id' if table == 'job_steps' else 'id'} <> {job}"
            for table, times in _TIMES.items()
        ),
    )


def change(settings: Settings, *statements: str) -> None:
    """Run SQL on the database, as a program that is no emulator."""
    engine = create_engine(settings.database)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def count(settings: Settings, table: str) -> int:
    engine = create_engine(settings.database)
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    engine.dispose()
    return int(found)


def damage(settings: Settings) -> bytes:
    """Overwrite a page of an index in SQLite's file, so that rows can still be read; the file's bytes."""
    change(settings, "PRAGMA wal_checkpoint(TRUNCATE)")
    file, page = settings.data_dir / "emulator.db", 4096
    content = bytearray(file.read_bytes())
    start = next(at for at in range(page, len(content), page) if content[at] == 10)
    content[start + 8 : start + 200] = bytes(192)
    file.write_bytes(content)
    return bytes(content)


def data(settings: Settings, *arguments: str) -> Result:
    """Run `vertex-emulator data` on that data."""
    database = ["--database-url", settings.database_url] if settings.database_url else []
    command = ["data", *arguments, "--data-dir", str(settings.data_dir), *database]
    return CliRunner().invoke(build(), command, catch_exceptions=False)


def data_json(settings: Settings, *arguments: str) -> Any:
    return json.loads(data(settings, *arguments, "--json").stdout)
