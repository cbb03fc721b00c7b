from collections.abc import Iterator
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from emulator.inference.loaded import LoadedModel, LoadOptions
from emulator.inference.prediction_cache import PredictionCache
from tests.conftest import shared_place


@pytest.fixture(scope="session", autouse=True)
def _shared_cache() -> Iterator[None]:
    """Predictors that were given no cache have the one that all tests share, if they are to."""
    place = shared_place()
    if place is None:
        yield
        return
    cache, usual = PredictionCache(place), LoadedModel.__init__

    @wraps(usual)
    def init(self: Any, manifest: Any, head: Any, options: LoadOptions) -> None:
        usual(self, manifest, head, options if options.cache else replace(options, cache=cache))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LoadedModel, "__init__", init)
        yield


@pytest.fixture(scope="module")
def no_shared_cache() -> Iterator[None]:
    """For tests of what is decoded, and of the cache itself."""
    with pytest.MonkeyPatch.context() as patched:
        init = LoadedModel.__init__
        patched.setattr(LoadedModel, "__init__", getattr(init, "__wrapped__", init))
        yield
