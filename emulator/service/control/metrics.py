"""Prometheus metrics: renders the counts of all parts in the text format."""

from collections.abc import Iterator, Mapping
from typing import Any

from emulator import __version__
from emulator.database import UNKNOWN_TOTAL
from emulator.service.context import Context
from emulator.service.control.faults import Faults
from emulator.service.control.journal import Journal


class Metrics:
    """Reads the counts of all parts."""

    def __init__(self, context: Context, journal: Journal, faults: Faults) -> None:
        self._context = context
        self._journal = journal
        self._faults = faults

    def text(self, gauges: Mapping[str, float]) -> tuple[bytes, str]:
        """The metrics, and their content type.

        `gauges` are numbers of the server, by name. Those whose name ends in `_total` are counters.
        """
        # Imported only when someone scrapes.
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self._families, gauges))
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _families(self, gauges: Mapping[str, float]) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            InfoMetricFamily,
            SummaryMetricFamily,
        )

        yield InfoMetricFamily("vertex_emulator", "The emulator.", value={"version": __version__})
        labels = ("surface", "method", "status")
        calls = SummaryMetricFamily(
            "vertex_emulator_call_seconds", "Calls that were answered.", labels=labels
        )
        for key, tally in sorted(self._journal.tallies.items()):
            calls.add_metric(key, count_value=tally.count, sum_value=tally.seconds)
        yield calls
        jobs = GaugeMetricFamily("vertex_emulator_jobs", "Jobs by state.", labels=("state",))
        for state, count in sorted(self._context.database.count_jobs().items()):
            jobs.add_metric((state.name,), count)
        yield jobs
        frames = GaugeMetricFamily(
            "vertex_emulator_job_frames",
            "Frames of running jobs: done, and left as far as that is known.",
            labels=("job", "kind"),
        )
        for name, done, left in self._context.database.frames():
            frames.add_metric((name, "done"), done)
            if left != UNKNOWN_TOTAL:
                frames.add_metric((name, "left"), left)
        yield frames
        fired = CounterMetricFamily(
            "vertex_emulator_faults_fired", "How often each fault took effect.", labels=("fault",)
        )
        for account in self._faults.list():
            fired.add_metric((account["id"],), account["fired"])
        yield fired
        for name, value in gauges.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(f"vertex_emulator_{name}", name.replace("_", " ").capitalize(), value=value)


class _Collector:
    """A collector for prometheus_client's registry."""

    def __init__(self, families: Any, gauges: Mapping[str, float]) -> None:
        self._families = families
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        """The current metric families."""
        return self._families(self._gauges)  # type: ignore[no-any-return]
