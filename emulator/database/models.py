"""Queries on models, their versions and aliases.

A model has few versions and a location few models, so reads take whole models. The service filters and
orders them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from emulator.database.connection import Connected, now_us
from emulator.database.prepared import Prepared
from emulator.database.rows import ModelRow, NewModel, VersionRow
from emulator.database.schema import jobs, models, seeded, versions

DEFAULT_ALIAS = "default"
_SEED_ATTEMPTS = 3
_MAX_AGE_S = 1.0
_REMEMBERED = 1000

_VERSION_NAMES = list(VersionRow.__dataclass_fields__)
_MODEL_NAMES = [name for name in ModelRow.__dataclass_fields__ if name != "versions"]
# Statements of every request are built once: building one takes longer than running it.
_SELECT_MODELS = (
    select(*(models.c[name] for name in _MODEL_NAMES), *(versions.c[name] for name in _VERSION_NAMES))
    .join_from(models, versions)
    .where(models.c.project == bindparam("project"), models.c.location == bindparam("location"))
    .order_by(versions.c.version)
)
_SELECT_MODEL = Prepared(_SELECT_MODELS.where(models.c.model_id == bindparam("model_id")))


@dataclass(frozen=True)
class _Known:
    """A cached model, with the time of the read and the value of `_models_changed` before it."""

    model: ModelRow
    changed: int
    read_at: float


class Models(Connected):
    """Models of each project and location, with their versions and aliases."""

    def __init__(self, url: str, clock: Callable[[], int] = now_us, *, migrate: bool = True) -> None:
        super().__init__(url, clock, migrate=migrate)
        self._known: dict[tuple[str, str, str], _Known] = {}

    def get_model(self, project: str, location: str, model_id: str) -> ModelRow | None:
        """The model with all its versions, or None."""
        parameters = {"project": project, "location": location, "model_id": model_id}
        with self._read() as connection:
            found = _models(_SELECT_MODEL.all(connection, parameters))
        return found[0] if found else None

    def known_model(self, project: str, location: str, model_id: str) -> ModelRow | None:
        """Like `get_model`, but from a cache.

        The result may be up to 1 s stale with respect to other servers. It always includes this server's
        changes.
        """
        key, now, changed = (project, location, model_id), time.monotonic(), self._models_changed
        known = self._known.get(key)
        if known is not None and self._is_current(known):
            return known.model
        model = self.get_model(*key)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        if model is not None:
            self._known[key] = _Known(model, changed, now)
        return model

    def is_known_model(self, project: str, location: str, model_id: str) -> bool:
        """Whether `known_model` would answer from the cache."""
        known = self._known.get((project, location, model_id))
        return known is not None and self._is_current(known)

    def _is_current(self, known: _Known) -> bool:
        return known.changed == self._models_changed and time.monotonic() - known.read_at < _MAX_AGE_S

    def list_models(self, project: str, location: str) -> list[ModelRow]:
        """All models of a location with their versions, newest first."""
        with self._read() as connection:
            found = _models(connection.execute(_SELECT_MODELS, {"project": project, "location": location}))
        return sorted(found, key=lambda model: (model.create_time_us, model.model_id), reverse=True)

    def insert_model(self, project: str, location: str, model: NewModel, aliases: Sequence[str]) -> bool:
        """Add a model with its first version; False if the id is taken."""
        try:
            with self._write_models() as connection:
                _insert_model(connection, project, location, model, aliases, self.clock())
        except IntegrityError:
            return False
        return True

    def add_version(self, project: str, location: str, model: NewModel, aliases: Sequence[str]) -> int | None:
        """Add a version to an existing model and move `aliases` to it.

        Returns:
            The version's number, or None if the model does not exist.
        """
        key, now = _model(project, location, model.model_id), self.clock()
        with self._write_models() as connection:
            raise_number = update(models).where(key)
            raise_number = raise_number.values(
                last_version=models.c.last_version + 1, update_time_us=_later(models.c.update_time_us, now)
            )
            if connection.execute(raise_number).rowcount != 1:
                return None
            number: int = connection.scalars(select(models.c.last_version).where(key)).one()
            _take_aliases(connection, project, location, model.model_id, aliases)
            _insert_version(connection, project, location, model, number, aliases, now)
            return number

    def update_model(
        self,
        project: str,
        location: str,
        model_id: str,
        changes: Mapping[str, Any],
        seen: tuple[ModelRow, VersionRow] | None = None,
    ) -> bool:
        """Change a model's display_name, description or labels.

        Returns:
            False if the model does not exist, or if it or the version differs from what the caller has
                `seen`.
        """
        with self._write_models() as connection:
            if not _is_as_seen(connection, project, location, model_id, seen):
                return False
            statement = update(models).where(_model(project, location, model_id))
            now = _later(models.c.update_time_us, self.clock())
            return connection.execute(statement.values(**changes, update_time_us=now)).rowcount == 1

    def update_version(
        self,
        project: str,
        location: str,
        model_id: str,
        version: int,
        changes: Mapping[str, Any],
        seen: tuple[ModelRow, VersionRow] | None = None,
    ) -> bool:
        """Change a version's description or labels; returns as `update_model` does."""
        with self._write_models() as connection:
            if not _is_as_seen(connection, project, location, model_id, seen):
                return False
            statement = update(versions).where(_version(project, location, model_id, version))
            now = _later(versions.c.update_time_us, self.clock())
            return connection.execute(statement.values(**changes, update_time_us=now)).rowcount == 1

    def merge_aliases(
        self,
        project: str,
        location: str,
        model_id: str,
        version: int,
        *,
        add: Sequence[str],
        remove: set[str],
    ) -> bool:
        """Move aliases `add` to a version and take `remove` from it; False if there is no such version."""
        with self._write_models() as connection:
            _lock(connection, project, location, model_id)
            key = _version(project, location, model_id, version)
            aliases = connection.scalar(select(versions.c.aliases).where(key).with_for_update())
            if aliases is None:
                return False
            _take_aliases(connection, project, location, model_id, add)
            kept = [alias for alias in aliases if alias not in remove and alias not in add]
            statement = update(versions).where(key)
            now = _later(versions.c.update_time_us, self.clock())
            connection.execute(statement.values(aliases=[*kept, *add], update_time_us=now))
            return True

    def delete_model(self, project: str, location: str, model_id: str) -> bool:
        """Remove a model with all its versions; False if it does not exist."""
        with self._write_models() as connection:
            _lock(connection, project, location, model_id)
            connection.execute(delete(versions).where(*_key(versions, project, location, model_id)))
            statement = delete(models).where(_model(project, location, model_id))
            return connection.execute(statement).rowcount == 1

    def delete_version(self, project: str, location: str, model_id: str, version: int) -> bool:
        """Remove a version unless it has the default alias; False if nothing was removed."""
        key = _version(project, location, model_id, version)
        with self._write_models() as connection:
            _lock(connection, project, location, model_id)
            aliases = connection.scalar(select(versions.c.aliases).where(key).with_for_update())
            if aliases is None or DEFAULT_ALIAS in aliases:
                return False
            connection.execute(delete(versions).where(key))
            now = _later(models.c.update_time_us, self.clock())
            statement = update(models).where(_model(project, location, model_id))
            connection.execute(statement.values(update_time_us=now))
            return True

    def seed_models(self, project: str, location: str, sources: Sequence[NewModel]) -> None:
        """Seed folder models into a location.

        A folder model that the location has never had is added. One that it has is updated from its folder;
        its names are updated only while no client has changed the model. A folder model that was deleted
        there, or whose id is taken, is left out.
        """
        for attempt in range(_SEED_ATTEMPTS):
            try:
                with self._write_models() as connection:
                    _seed(connection, project, location, sources, self.clock())
                return
            except IntegrityError:
                # Another server added some of them at the same time: the next attempt sees them.
                if attempt == _SEED_ATTEMPTS - 1:
                    raise

    def has_seeded(self, project: str, location: str, names: Collection[str]) -> bool:
        """Whether all these folder models have been seeded into a location."""
        query = select(seeded.c.source).where(seeded.c.project == project, seeded.c.location == location)
        with self._read() as connection:
            return set(names).issubset(connection.scalars(query))

    def count_models_by_place(self) -> dict[tuple[str, str], int]:
        """The number of models in each project and location."""
        place = models.c.project, models.c.location
        with self._read() as connection:
            found = connection.execute(select(*place, func.count()).group_by(*place))
            return {(project, location): count for project, location, count in found}

    def version_folders(self) -> set[str]:
        """The folders that any model version refers to."""
        with self._read() as connection:
            return set(connection.scalars(select(versions.c.folder).distinct()))

    def move_folders(self, moved: Callable[[str], str]) -> None:
        """Replace each model folder path of model versions and jobs by `moved(path)`."""
        with self._write_models() as connection:
            for column in (versions.c.folder, jobs.c.model_folder):
                for path in connection.scalars(select(column).distinct()).all():
                    if (new := moved(path)) != path:
                        change = update(column.table).where(column == path)
                        connection.execute(change.values({column.name: new}))


def _key(table: Any, project: str, location: str, model_id: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.project == project, table.c.location == location, table.c.model_id == model_id


def _model(project: str, location: str, model_id: str) -> ColumnElement[bool]:
    return and_(*_key(models, project, location, model_id))


def _version(project: str, location: str, model_id: str, version: int) -> ColumnElement[bool]:
    return and_(*_key(versions, project, location, model_id), versions.c.version == version)


def _lock(connection: Connection, project: str, location: str, model_id: str) -> int | None:
    """Lock a model and its versions until the transaction ends.

    A transaction that changes both locks the model first, so that no two deadlock.

    Returns:
        The model's update time, or None if there is no such model.
    """
    key = _model(project, location, model_id)
    return connection.scalar(select(models.c.update_time_us).where(key).with_for_update())


def _is_as_seen(
    connection: Connection,
    project: str,
    location: str,
    model_id: str,
    seen: tuple[ModelRow, VersionRow] | None,
) -> bool:
    """Whether a model, and the version that was read with it, are unchanged since; locks them."""
    model_time = _lock(connection, project, location, model_id)
    if seen is None:
        return model_time is not None
    model, version = seen
    key = _version(project, location, model_id, version.version)
    # A separate statement: in PostgreSQL it sees what was committed while this transaction waited for the
    # lock.
    version_time = connection.scalar(select(versions.c.update_time_us).where(key))
    return (model_time, version_time) == (model.update_time_us, version.update_time_us)


def _later(column: Column[int], now: int) -> ColumnElement[int]:
    """The current time, or just after the last change if the clock has not moved on: etags depend on it."""
    time_us = literal(now, BigInteger)
    return case((column >= time_us, column + 1), else_=time_us)


def _models(rows: Iterable[Sequence[Any]]) -> list[ModelRow]:
    """Models with their versions, from rows that join the two."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    of_model: dict[tuple[str, str, str], list[VersionRow]] = defaultdict(list)
    for row in rows:
        model = dict(zip(_MODEL_NAMES, row, strict=False))
        version = dict(zip(_VERSION_NAMES, row[len(_MODEL_NAMES) :], strict=True))
        key = model["project"], model["location"], model["model_id"]
        found[key] = model
        of_model[key].append(VersionRow(**version | {"aliases": tuple(version["aliases"])}))
    return [ModelRow(**model, versions=tuple(of_model[key])) for key, model in found.items()]


def _insert_model(
    connection: Connection, project: str, location: str, model: NewModel, aliases: Sequence[str], now: int
) -> None:
    values = {"project": project, "location": location, "model_id": model.model_id}
    values |= {"display_name": model.display_name, "description": model.description}
    times = {"create_time_us": now, "update_time_us": now}
    statement = insert(models).values(**values, **times, labels=dict(model.labels), last_version=1)
    connection.execute(statement)
    _insert_version(connection, project, location, model, 1, aliases, now)


def _insert_version(
    connection: Connection,
    project: str,
    location: str,
    model: NewModel,
    number: int,
    aliases: Sequence[str],
    now: int,
) -> None:
    statement = insert(versions).values(
        project=project,
        location=location,
        model_id=model.model_id,
        version=number,
        aliases=list(aliases),
        labels=dict(model.version_labels),
        description=model.version_description,
        folder=model.folder,
        digest=model.digest,
        document=model.document,
        source=model.source,
        objective=model.objective,
        create_time_us=now,
        update_time_us=now,
    )
    connection.execute(statement)


def _take_aliases(
    connection: Connection, project: str, location: str, model_id: str, aliases: Iterable[str]
) -> None:
    """Remove aliases from all versions: an alias names one version of a model."""
    taken = set(aliases)
    columns = versions.c.version, versions.c.aliases
    statement = select(*columns).where(*_key(versions, project, location, model_id)).with_for_update()
    for version, present in connection.execute(statement).all():
        if kept := taken & set(present):
            rest = [alias for alias in present if alias not in kept]
            key = _version(project, location, model_id, version)
            connection.execute(update(versions).where(key).values(aliases=rest))


def _seed(connection: Connection, project: str, location: str, sources: Sequence[NewModel], now: int) -> None:
    place = and_(seeded.c.project == project, seeded.c.location == location)
    known = set(connection.scalars(select(seeded.c.source).where(place)))
    for model in sources:
        key = _model(project, location, model.model_id)
        if model.source in known:
            _refresh(connection, project, location, model)
        elif connection.scalar(select(models.c.model_id).where(key)) is None:
            _insert_model(connection, project, location, model, [DEFAULT_ALIAS], now)
            values = {"project": project, "location": location, "source": model.source}
            connection.execute(insert(seeded).values(values))


def _refresh(connection: Connection, project: str, location: str, model: NewModel) -> None:
    key = and_(*_key(versions, project, location, model.model_id), versions.c.source == model.source)
    stale = and_(key, or_(versions.c.digest != model.digest, versions.c.folder != model.folder))
    content = {"folder": model.folder, "digest": model.digest, "document": model.document}
    content["objective"] = model.objective
    if connection.execute(update(versions).where(stale).values(content)).rowcount:
        untouched = models.c.update_time_us == models.c.create_time_us
        names = {"display_name": model.display_name, "description": model.description}
        statement = update(models).where(_model(project, location, model.model_id), untouched)
        connection.execute(statement.values(names))
