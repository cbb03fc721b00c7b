"""Models for the other services: seeded on first use, found by name, resolved to a version."""

import threading
import time
from dataclasses import dataclass

from emulator.database import ModelRow, NewModel, VersionRow
from emulator.registry import Catalogue, ModelSource
from emulator.service.context import Context, Place
from emulator.vertex.errors import NotFound
from emulator.vertex.names import ModelName

DEFAULT_ALIAS = "default"
# Scanning the folders takes longer than the rest of a call. For a model that is not found they are scanned
# again.
_MAX_AGE_S = 1.0
# Other servers on the database may remove a location's models unnoticed for this long.
_SEED_AGE_S = 5.0
_REMEMBERED = 1000


@dataclass(frozen=True)
class ResolvedModel:
    """A model and the version that a name refers to."""

    model: ModelRow
    version: VersionRow


class ModelRegistry:
    """Reads models from the database, after updating a location's folder models."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seeded: dict[Place, tuple[Catalogue, float]] = {}
        self._lock = threading.Lock()

    def find(self, name: ModelName, *, from_memory: bool = False) -> ModelRow:
        """The model with that name, whatever its version. Raises NotFound.

        With `from_memory` it may come from a cache; see `Database.known_model`.
        """
        database = self._context.database
        read_first = database.known_model if from_memory else database.get_model
        place, began = self._context.place(name), time.monotonic()
        for read, fresh in ((read_first, False), (database.get_model, True)):
            # Fresh means scanned since this call began, so the folders are not scanned twice.
            self._seed(place, time.monotonic() - began if fresh else _MAX_AGE_S)
            model = read(place.project, place.location, name.model)
            if model is not None:
                return model
        # Vertex: "The <Resource> does not exist." The rest tells a developer what to correct.
        raise NotFound(
            f"The Model does not exist. No {place}/models/{name.model}. {self._what_there_is(place)}"
        )

    def resolve(self, name: ModelName, *, from_memory: bool = False) -> ResolvedModel:
        """The version that a name refers to: a number, an alias, or the default version. Raises NotFound."""
        model = self.find(name, from_memory=from_memory)
        wanted = name.version or DEFAULT_ALIAS
        for version in model.versions:
            if wanted == str(version.version) or wanted in version.aliases:
                return ResolvedModel(model, version)
        known = [str(version.version) for version in model.versions]
        known += [alias for version in model.versions for alias in version.aliases]
        raise NotFound(
            f"The Model does not exist. No version or alias {wanted} of {self._context.place(name)}"
            f"/models/{name.model}. It has {', '.join(known)}."
        )

    def list(self, place: Place) -> list[ModelRow]:
        """All models of a location."""
        self._seed(place)
        return self._context.database.list_models(place.project, place.location)

    def is_known(self, name: ModelName) -> bool:
        """Whether a model can be found without reading folders or database."""
        place = self._context.place(name)
        return self._context.registry.is_current(_MAX_AGE_S) and self._context.database.is_known_model(
            place.project, place.location, name.model
        )

    def forget_seeds(self) -> None:
        """Seed every location again on its next use, for example after rows were removed."""
        with self._lock:
            self._seeded.clear()

    def _what_there_is(self, place: Place) -> str:
        known = [
            model.model_id for model in self._context.database.list_models(place.project, place.location)
        ]
        text = f"Models there: {', '.join(known)}." if known else "There are no models there."
        problems = self._context.registry.catalogue(max_age_s=_MAX_AGE_S).problems
        return " Left out: ".join([text, *problems[:3]])

    def _seed(self, place: Place, max_age_s: float = 0.0) -> None:
        catalogue = self._context.registry.catalogue(max_age_s=max_age_s)
        if self._is_seeded(place, catalogue):
            return
        with self._lock:
            sources = [folder_model(source) for source in catalogue.sources]
            now = time.monotonic()
            self._context.database.seed_models(place.project, place.location, sources)
            if len(self._seeded) >= _REMEMBERED:
                self._seeded.clear()
            self._seeded[place] = catalogue, now

    def _is_seeded(self, place: Place, catalogue: Catalogue) -> bool:
        seeded = self._seeded.get(place)
        if seeded is None or seeded[0] != catalogue:
            return False
        if time.monotonic() - seeded[1] < _SEED_AGE_S:
            return True
        # Another server may have removed the rows by a reset or by loading a snapshot, on SQLite too.
        database, names = self._context.database, [source.id for source in catalogue.sources]
        if database.is_shared or not database.has_seeded(place.project, place.location, names):
            return False
        self._seeded[place] = catalogue, time.monotonic()
        return True


def resolve_default(model: ModelRow) -> ResolvedModel:
    """The default version of a model."""
    version = next(version for version in model.versions if DEFAULT_ALIAS in version.aliases)
    return ResolvedModel(model, version)


def folder_model(source: ModelSource) -> NewModel:
    """Convert a folder model to a row."""
    manifest = source.manifest
    return NewModel(
        model_id=source.id,
        display_name=manifest.display_name,
        description=source.description,
        labels=source.labels,
        folder=str(source.folder),
        digest=source.digest,
        document=source.message().SerializeToString(),
        source=source.id,
        objective=manifest.objective.name,
    )
