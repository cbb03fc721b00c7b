"""The projects and locations that have jobs or models. Vertex has no RPC that lists them."""

from typing import Any

from emulator.service.context import Context

_ID_NOTES = "project/"


class Scopes:
    """Lists projects and locations."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._noted: set[str] = set()

    def remember(self, project: str) -> None:
        """Store the id of a project, given its number, for later servers: rows have the number only."""
        found = self._context.project_ids.get(project)
        if found is not None and project not in self._noted:
            self._noted.add(project)
            self._context.database.set_note(f"{_ID_NOTES}{project}", found)

    def forget(self) -> None:
        """Store ids again on their next use: the notes may be gone."""
        self._noted.clear()

    def list(self) -> list[dict[str, Any]]:
        """Each project and location with its numbers of jobs and models.

        `project` is the id if the server knows it, else the number: rows have the number only.
        """
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
