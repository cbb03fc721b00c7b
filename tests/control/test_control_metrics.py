"""GET /_emulator/metrics: histograms of calls, jobs, queues and videos, and the disk."""

import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from emulator.app import Emulator
from tests.control.project import Project, client_of, make_settings

PAGE = (Path(__file__).parents[2] / "docs" / "observe.md").read_text(encoding="utf-8")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(http: httpx.Client) -> Samples:
    """Every sample, as Prometheus's own parser reads it: by name and labels."""
    answer = http.get("/_emulator/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"vertex_emulator_{name}", frozenset(labels.items())), 0.0)


def check_buckets(samples: Samples, name: str, **labels: str) -> None:
    """The buckets of a histogram grow up to its count."""
    bounds = {
        float(dict(found)["le"]): count
        for (of, found), count in samples.items()
        if of == f"vertex_emulator_{name}_bucket"
        and set(labels.items()) == set(found) - {("le", dict(found)["le"])}
    }
    counts = [bounds[bound] for bound in sorted(bounds)]
    assert len(counts) > 5
    assert counts == sorted(counts)
    assert counts[-1] == value(samples, f"{name}_count", **labels)


def test_calls_are_counted_by_surface_method_and_status(tmp_path: Path) -> None:
    with Emulator(make_settings(tmp_path)) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, emulator.settings.buckets)
        for _ in range(3):
            http.get(f"/v1/{project.parent}/batchPredictionJobs")
        http.get(f"/v1/{project.parent}/batchPredictionJobs/7")
        http.get("/storage/v1/b/bucket/o")
        samples = scraped(http)
    lists = {"surface": "rest", "method": "JobService/ListBatchPredictionJobs", "status": "OK"}
    missing = {"surface": "rest", "method": "JobService/GetBatchPredictionJob", "status": "NOT_FOUND"}
    objects = {"surface": "storage", "method": "storage.objects.list", "status": "OK"}
    for labels, calls in ((lists, 3), (missing, 1), (objects, 1)):
        assert value(samples, "call_seconds_count", **labels) == calls
        assert value(samples, "call_seconds_sum", **labels) > 0
        check_buckets(samples, "call_seconds", **labels)


def test_jobs_queues_and_videos_are_counted_once(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        project.finish(project.create("a.mp4", "b.mp4"))
        project.finish(project.create("none.mp4"))
        project.pace("pending=hold")
        cancelled = project.create()
        project.call("POST", f"/v1/{cancelled}:cancel", {})
        project.wait(cancelled)
        for _ in range(2):
            samples = scraped(http)
            assert value(samples, "job_seconds_count", state="SUCCEEDED") == 1
            assert value(samples, "job_seconds_count", state="FAILED") == 1
            # It never began.
            assert value(samples, "job_seconds_count", state="CANCELLED") == 0
            assert value(samples, "job_queue_seconds_count") == 2
            assert value(samples, "video_seconds_count") == 3
        job = project.call("GET", f"/v1/{project.parent}/batchPredictionJobs")
        assert len(job["batchPredictionJobs"]) == 3
        check_buckets(samples, "job_seconds", state="SUCCEEDED")
        check_buckets(samples, "job_queue_seconds")
        check_buckets(samples, "video_seconds")
        assert value(samples, "job_seconds_sum", state="SUCCEEDED") > 0


def test_times_of_deterministic_mode_are_not_counted(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, seed=1)
    with Emulator(settings) as emulator, client_of(emulator) as http:
        project = Project(emulator, http, settings.buckets)
        project.finish(project.create())
        samples = scraped(http)
    assert value(samples, "job_queue_seconds_count") == 0
    assert value(samples, "video_seconds_count") == 1


def test_page_lists_every_metric(tmp_path: Path) -> None:
    section = PAGE.partition("\n## Read the metrics\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \| (?:info|histogram|gauge|counter) \|", section, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    with Emulator(make_settings(tmp_path)) as emulator, client_of(emulator) as http:
        text = http.get("/_emulator/metrics").text
    told = {family.name: family.type for family in text_string_to_metric_families(text)}
    suffixes = {"counter": "_total", "info": "_info"}
    names = {
        f"{name.removeprefix('vertex_emulator_')}{suffixes.get(kind, '')}" for name, kind in told.items()
    }
    assert listed == {"info" if "vertex_emulator" in name else name for name in names}


def test_disk_and_database_are_measured(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, storage_dir=tmp_path / "elsewhere")
    with Emulator(settings) as emulator, client_of(emulator) as http:
        samples = scraped(http)
    for name in ("data_disk_used_bytes", "data_disk_free_bytes", "buckets_disk_used_bytes", "database_bytes"):
        assert value(samples, name) > 0, name
