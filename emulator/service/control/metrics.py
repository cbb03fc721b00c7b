"""Prometheus metrics: renders the counts of all parts in the text format."""

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from emulator import __version__
from emulator.database import UNKNOWN_TOTAL, JobRow
from emulator.service.context import Context
from emulator.service.control.faults import Faults
from emulator.service.control.histogram import OF_JOBS, OF_VIDEOS, Histogram
from emulator.service.control.journal import Journal

_MICROSECONDS = 1_000_000


class Metrics:
    """Reads the counts of all parts, and counts how long the jobs and videos took that ended here."""

    def __init__(self, context: Context, journal: Journal, faults: Faults) -> None:
        self._context = context
        self._journal = journal
        self._faults = faults
        self._jobs: dict[str, Histogram] = {}
        self._queues, self._videos = Histogram(OF_JOBS), Histogram(OF_VIDEOS)
        context.database.end_listeners.append(self._job_ended)
        context.database.recorded.append(self._videos.add)

    def _job_ended(self, row: JobRow) -> None:
        # In deterministic mode a job's times are not real.
        if self._context.database.tick_us is not None or row.start_time_us is None:
            return
        ended_us = row.end_time_us or row.update_time_us
        durations = self._jobs.setdefault(row.state.name, Histogram(OF_JOBS))
        durations.add(max(0, ended_us - row.start_time_us) / _MICROSECONDS)
        self._queues.add(max(0, row.start_time_us - row.create_time_us) / _MICROSECONDS)

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
        )

        yield InfoMetricFamily("vertex_emulator", "The emulator.", value={"version": __version__})
        yield from self._histograms()
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

    def _histograms(self) -> Iterator[Any]:
        labels = ("surface", "method", "status")
        calls = self._journal.durations.copy().items()
        yield _family("call_seconds", "Calls that were answered, those of Cloud Storage too.", calls, labels)
        jobs = [((state,), durations) for state, durations in self._jobs.copy().items()]
        yield _family("job_seconds", "Jobs that ended here, from start to end.", jobs, ("state",))
        queues, videos = ((), self._queues), ((), self._videos)
        yield _family("job_queue_seconds", "The same jobs, from creation to start.", [queues])
        text = "Videos that were recorded here, from the first worker that got them."
        yield _family("video_seconds", text, [videos])


def _family(
    name: str,
    text: str,
    histograms: Iterable[tuple[tuple[str, ...], Histogram]],
    labels: tuple[str, ...] = (),
) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"vertex_emulator_{name}", text, labels=labels)
    for values, durations in sorted(histograms, key=itemgetter(0)):
        family.add_metric(values, durations.buckets(), durations.seconds)
    return family


class _Collector:
    """A collector for prometheus_client's registry."""

    def __init__(self, families: Any, gauges: Mapping[str, float]) -> None:
        self._families = families
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        """The current metric families."""
        return self._families(self._gauges)  # type: ignore[no-any-return]
