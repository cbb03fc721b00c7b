"""Jobs end as if nothing had happened, whatever happens to their servers and workers.

`make test-chaos KILLS=1000 STOPS=200 SEED=7` for more than a few minutes' worth, or for the same again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tests.chaos.arena import CLEAN, WITH_ERRORS, Arena, Setup
from tests.chaos.campaign import Campaign, aims, share
from tests.chaos.served import POINT_NAMES
from tests.chaos.verdict import check_undisturbed, result_of
from tests.gcs_endpoint.servers import fake_gcs_server

pytestmark = pytest.mark.chaos

SEED = os.environ.get("EMULATOR_CHAOS_SEED") or uuid.uuid4().hex[:8]
KILLS = int(os.environ.get("EMULATOR_CHAOS_KILLS") or 50)
STOPS = int(os.environ.get("EMULATOR_CHAOS_STOPS") or 40)
POSTGRESQL_VARIABLE = "EMULATOR_TEST_POSTGRESQL_URL"
SETUPS = [
    Setup(servers, database, storage)
    for storage in ("folder", "fake-gcs-server")
    for servers, database in ((1, "sqlite"), (2, "sqlite"), (2, "postgresql"))
]


@contextmanager
def postgresql_schema() -> Iterator[str]:
    """The URL of a schema of its own on the PostgreSQL server that is named; skips where none is."""
    server = os.environ.get(POSTGRESQL_VARIABLE)
    if not server:
        pytest.skip(f"{POSTGRESQL_VARIABLE} names no server; `make test-chaos` sees to it")
    schema = f"chaos_{uuid.uuid4().hex}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine.dispose()
    url = make_url(server).update_query_dict({"options": f"-csearch_path={schema}"})
    yield url.render_as_string(hide_password=False)


@contextmanager
def campaign_in(folder: Path, setup: Setup, workers_each: tuple[int, ...]) -> Iterator[Campaign]:
    """Servers that have run each kind of job in peace, and a campaign against them."""
    with ExitStack() as parts:
        url = parts.enter_context(postgresql_schema()) if setup.database == "postgresql" else None
        endpoint = parts.enter_context(fake_gcs_server()) if setup.storage != "folder" else None
        arena = parts.enter_context(Arena(folder / "arena", setup, url, endpoint, workers_each))
        undisturbed = {}
        for source, failed in ((CLEAN, 0), (WITH_ERRORS, 3)):
            arena.submit(arena.servers[0], f"undisturbed-{source}", source, 0)
            job = arena.finish(f"undisturbed-{source}")
            undisturbed[source] = result_of(job, arena.output(f"undisturbed-{source}"))
            check_undisturbed(undisturbed[source], arena.predicted, failed)
        print(f"\n{setup}: seed {SEED}", flush=True)
        yield Campaign(arena, undisturbed, SEED)


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_random_blows(setup: Setup, tmp_path: Path) -> None:
    kills = share(KILLS, len(SETUPS), SETUPS.index(setup))
    number = 0
    # One worker less in the second server: a start is what costs most here.
    with campaign_in(tmp_path, setup, (2, 1)) as campaign:
        while campaign.kills < kills:
            number += 1
            campaign.random_round(number, kills - campaign.kills)
        print(campaign.report(), flush=True)
        assert campaign.verdict.is_clean, campaign.report()


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_aimed_blows(setup: Setup, tmp_path: Path) -> None:
    with campaign_in(tmp_path, setup, (2, 2)) as campaign:
        for aim in aims(SETUPS, POINT_NAMES, SEED, STOPS):
            if aim.setup == setup:
                campaign.aimed(aim)
        print(campaign.report(), flush=True)
        assert campaign.verdict.is_clean, campaign.report()
