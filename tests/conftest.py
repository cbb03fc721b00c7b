"""What all tests share: property tests repeat their examples, and few tests may take as long as they like.

EMULATOR_TEST_CACHE says what the prediction cache does in all tests but those of its own: `off`, or the path
of a folder in which all of them share one, so that a second run finds what the first has kept. Without it,
servers have theirs as usual and tests of predictors and jobs have none.
"""

import faulthandler
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from emulator.inference.prediction_cache import CachePlace
from emulator.testing import server

# However busy the machine.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lift the limit of a test where whoever starts the run says how much it does."""
    many_examples = item.get_closest_marker("fuzz") and os.environ.get("EMULATOR_FUZZ_EXAMPLES")
    if many_examples or item.get_closest_marker("chaos"):
        faulthandler.cancel_dump_traceback_later()


TEST_CACHE = os.environ.get("EMULATOR_TEST_CACHE", "")


def shared_place() -> CachePlace | None:
    """The cache that all tests share, if they are to."""
    return CachePlace(Path(TEST_CACHE).absolute(), 1_000_000_000) if TEST_CACHE not in ("", "off") else None


#: For a test of how things are decoded or inferred, neither of which happens where the result is known.
decodes = pytest.mark.skipif(shared_place() is not None, reason="the shared cache would know the result")


@pytest.fixture(scope="session", autouse=True)
def _prediction_cache() -> Iterator[None]:
    """Servers in this process and those that tests start have the cache that the variable says."""
    if not TEST_CACHE:
        yield
        return
    usual = CachePlace.below

    def below(data_dir: Path, megabytes: int) -> CachePlace | None:
        shared, place = shared_place(), usual(data_dir, megabytes)
        return replace(place, folder=shared.folder) if shared and place else None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CachePlace, "below", below)
        if TEST_CACHE == "off":
            patched.setenv("VERTEX_EMULATOR_PREDICTION_CACHE_MB", "0")
            # These servers heed no variable.
            usual_settings = server._with_defaults
            patched.setattr(
                server,
                "_with_defaults",
                lambda settings, folder: {"prediction_cache_mb": 0, **usual_settings(settings, folder)},
            )
        yield
