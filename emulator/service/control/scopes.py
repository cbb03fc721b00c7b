"""The projects and locations that hold something. Vertex has no RPC that lists them."""

from typing import Any

from emulator.service.context import Context

_ID_NOTES = "project/"


class Scopes:
    """Reads which projects and locations there are."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._noted: set[str] = set()

    def remember(self, project: str) -> None:
        """Keep the id of a project, given its number, for servers to come: rows have the number alone."""
        found = self._context.project_ids.get(project)
        if found is not None and project not in self._noted:
            self._noted.add(project)
            self._context.database.set_note(f"{_ID_NOTES}{project}", found)

    def forget(self) -> None:
        """Note ids anew: the notes may be gone."""
        self._noted.clear()

    def list(self) -> list[dict[str, Any]]:
        """Each place with its numbers of jobs and models. `project` is the id if this server has heard it,
        else the number: rows keep the number alone."""
        jobs = self._context.database.count_by_place()
        models = self._context.database.count_models_by_place()
        notes = self._context.database.get_notes(_ID_NOTES)
        ids = {name.removeprefix(_ID_NOTES): project for name, project in notes.items()}
        ids |= {number: project for project, number in self._context.project_numbers.items()}
        ids.update(self._context.project_ids)
        return [
            {
                "project": ids.get(project, project),
                "number": project,
                "location": location,
                "jobs": jobs.get((project, location), 0),
                "models": models.get((project, location), 0),
            }
            for project, location in sorted(jobs.keys() | models.keys())
        ]
