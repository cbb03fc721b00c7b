"""The pytest plugin, by running pytest with it: in this process, or in others where that matters."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import google.cloud.aiplatform  # noqa: F401
import pytest

# What runs in this process may load these only once.
import emulator.factory  # noqa: F401

pytest_plugins = ["pytester"]

HEAVY = (
    "fastapi",
    "sqlalchemy",
    "numpy",
    "cv2",
    "onnxruntime",
    "grpc",
    "google.cloud.aiplatform",
    "uvicorn",
    "pydantic",
)


@pytest.fixture(autouse=True)
def _quiet_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """This run's own parallelism is none of the inner one's business."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)
    pytester.makeini("[pytest]\naddopts = -p no:schemathesis -p no:cacheprovider\n")


def test_loading_it_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import sys

        def test_nothing():
            assert "emulator.testing.plugin" in sys.modules
            assert [name for name in {HEAVY!r} if name in sys.modules] == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:xdist").assert_outcomes(passed=1)


def test_each_test_has_its_own_project_and_nothing_stays_set(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        import re

        import pytest
        from google.cloud import aiplatform

        PROJECTS = []

        @pytest.fixture(autouse=True, scope="module")
        def surroundings():
            os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/real/key.json"
            before = state()
            yield
            assert before == state()
            del os.environ["GOOGLE_APPLICATION_CREDENTIALS"]

        def state():
            environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
            return environment, dict(aiplatform.initializer.global_config.__dict__)

        @pytest.mark.parametrize("number", [1, 2])
        def test_own(vertex_emulator, number):
            assert re.fullmatch("[a-z][a-z0-9-]{4,28}[a-z0-9]", vertex_emulator.project)
            assert "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ
            assert os.environ["STORAGE_EMULATOR_HOST"] == vertex_emulator.url
            # As the documentation's samples do: the endpoint is kept.
            aiplatform.init(project=vertex_emulator.project, location="us-central1")
            assert aiplatform.BatchPredictionJob.list() == []
            video = vertex_emulator.upload_video()
            aiplatform.BatchPredictionJob.submit(
                job_display_name="mine",
                model_name="video-object-tracking",
                gcs_source=vertex_emulator.write_instances(video),
                gcs_destination_prefix=f"gs://{vertex_emulator.bucket}/out",
            )
            assert len(aiplatform.BatchPredictionJob.list()) == 1
            PROJECTS.append(vertex_emulator.project)

        def test_different():
            assert len(set(PROJECTS)) == 2
        """
    )
    pytester.runpytest("-p", "no:xdist").assert_outcomes(passed=3)


def test_clients_and_settings(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def vertex_emulator_settings():
            return {"workers": 1, "project_numbers": {"p": "42"}, "bundled_models": False}
        """
    )
    pytester.makepyfile(
        """
        def test_clients(vertex_emulator, vertex_emulator_server):
            assert vertex_emulator_server.settings.project_numbers == {"p": "42"}
            for client in (vertex_emulator.jobs, vertex_emulator.jobs_grpc):
                assert list(client.list_batch_prediction_jobs(parent=vertex_emulator.parent)) == []
            assert vertex_emulator.aiplatform.Model.list() == []
            bucket = vertex_emulator.storage.bucket(vertex_emulator.bucket)
            bucket.blob("a.txt").upload_from_string("a")
            assert (vertex_emulator.buckets / vertex_emulator.bucket / "a.txt").read_text() == "a"
            methods = [call["method"] for call in vertex_emulator.requests("ListBatchPredictionJobs")]
            assert methods == ["JobService/ListBatchPredictionJobs"] * 2
        """
    )
    pytester.runpytest("-p", "no:xdist").assert_outcomes(passed=1)


@pytest.mark.parametrize("guard", ["used", "off"])
def test_a_proxy_in_the_environment_is_not_in_the_way(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, guard: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_grpc_proxy", "intranet.example")
    pytester.makepyfile(
        reach="""
        import sys
        import grpc

        with grpc.insecure_channel(sys.argv[1]) as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
        """,
        test_proxy="""
        import os
        import subprocess
        import sys
        from pathlib import Path

        from emulator.testing import VertexEmulator, Videos, serve

        REACH = Path(__file__).with_name("reach.py")

        def use(emulator):
            job = emulator.jobs.create_batch_prediction_job(
                parent=emulator.parent,
                batch_prediction_job={
                    "display_name": "mine",
                    "model": emulator.canned({"*": []}),
                    "input_config": {
                        "instances_format": "jsonl",
                        "gcs_source": {"uris": [emulator.write_instances("gs://b-1/a.mp4")]},
                    },
                    "output_config": {
                        "predictions_format": "jsonl",
                        "gcs_destination": {"output_uri_prefix": f"gs://{emulator.bucket}/out"},
                    },
                },
            )
            emulator.wait(job)
            assert emulator.predictions(job.name) == []
            assert list(emulator.jobs_grpc.list_batch_prediction_jobs(parent=emulator.parent, timeout=60))
            blob = emulator.storage.bucket(emulator.bucket).blob("a.txt")
            blob.upload_from_string("a", timeout=60)

        def test_clients(vertex_emulator):
            use(vertex_emulator)
            assert len(vertex_emulator.aiplatform.BatchPredictionJob.list()) == 1
            assert os.environ["no_grpc_proxy"].startswith("intranet.example,")
            subprocess.run([sys.executable, REACH, vertex_emulator.grpc_address], check=True)

        def test_without_fixtures(tmp_path):
            with serve({"workers": 1}) as server:
                emulator = VertexEmulator(server, "my-project", Videos(tmp_path))
                use(emulator)
                emulator.close()
        """,
    )
    result = pytester.runpytest("-p", "no:xdist", "-o", f"vertex_emulator_guard={guard}")
    result.assert_outcomes(passed=2)


def test_guard_fails_a_test_that_reaches_for_google(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading
        import urllib.request

        import pytest

        URL = "https://us-central1-aiplatform.googleapis.com/v1"

        def test_at_once(google_guard):
            try:
                urllib.request.urlopen(URL)
            except Exception:
                pass
            raise AssertionError("never comes here")

        def test_in_another_thread(google_guard):
            def reach():
                try:
                    urllib.request.urlopen(URL)
                except OSError:
                    pass

            thread = threading.Thread(target=reach)
            thread.start()
            thread.join()

        def test_that_fails_anyway(google_guard):
            test_in_another_thread(google_guard)
            raise AssertionError("something else")

        @pytest.fixture
        def reaching(google_guard):
            google_guard.note("www.google.com")
            raise AssertionError("no fixture")

        def test_of_a_fixture(reaching):
            pass

        @pytest.fixture
        def late(google_guard):
            yield
            google_guard.note("late.google.com")

        def test_that_fails_before(late):
            raise AssertionError("something else")

        def test_on_purpose(google_guard):
            thread = threading.Thread(target=lambda: google_guard.note("storage.googleapis.com"))
            thread.start()
            thread.join()
            assert google_guard.refused == ["storage.googleapis.com"]
            google_guard.forget()
        """
    )
    result = pytester.runpytest("-p", "no:xdist")
    result.assert_outcomes(failed=3, passed=2, errors=3)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_in_another_thread*",
            "*tried to reach us-central1-aiplatform.googleapis.com*",
            "*ERROR at setup of test_of_a_fixture*",
            "*Google guard*",
            "*tried to reach www.google.com*",
            "*ERROR at teardown of test_that_fails_before*",
            "*tried to reach late.google.com*",
            "*test_at_once*",
            "*tried to reach us-central1-aiplatform.googleapis.com*",
            "*test_that_fails_anyway*",
            "*Google guard*",
            "*tried to reach us-central1-aiplatform.googleapis.com*",
        ]
    )
    result.stdout.no_fnmatch_line("*never comes here*")
    # Only where the failure itself does not say so.
    assert str(result.stdout).count(" Google guard ") == 2


@pytest.mark.parametrize(("choice", "watched"), [("always", True), ("used", False), ("off", False)])
def test_guard_can_be_for_every_test(pytester: pytest.Pytester, choice: str, watched: bool) -> None:
    pytester.makepyfile(
        f"""
        import socket

        def test_without_the_emulator():
            assert (socket.getaddrinfo.__module__ != "socket") is {watched}
        """
    )
    pytester.runpytest("-p", "no:xdist", "-o", f"vertex_emulator_guard={choice}").assert_outcomes(passed=1)


def test_guard_refuses_a_choice_that_is_none(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("-o", "vertex_emulator_guard=perhaps")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*vertex_emulator_guard = perhaps: choose one of used, always, off.*"])


def test_failed_test_shows_the_log_and_explains_the_mismatch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from emulator.testing import track

        def test_wrong(vertex_emulator, canned):
            video = vertex_emulator.upload_video()
            jobs = vertex_emulator.aiplatform.BatchPredictionJob
            job = jobs.submit(
                job_display_name="wrong",
                model_name=canned(video),
                gcs_source=vertex_emulator.write_instances(video),
                gcs_destination_prefix=f"gs://{vertex_emulator.bucket}/out",
            )
            assert track("dog", 1.2, 3.9) in vertex_emulator.predictions(vertex_emulator.wait(job))
        """
    )
    result = pytester.runpytest("-p", "no:xdist")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*it is among the predictions*",
            "*expected dog from 1.2 s to 3.9 s (within 0.1 s)",
            "*nearest: dog from 1.2 s to 3.4 s, confidence 1.00: it ends 0.5 s too early",
            "*Vertex emulator's log*",
            "*JOB_STATE_SUCCEEDED*",
        ]
    )


WRONG = """
    from emulator.testing import track

    def test_wrong(vertex_emulator, canned):
        videos = [vertex_emulator.upload_video(name=f"videos/{name}.mp4") for name in "ab"]
        job = vertex_emulator.aiplatform.BatchPredictionJob.submit(
            job_display_name="wrong",
            model_name=canned({videos[0].uri: [], videos[1].uri: videos[1].answer()}),
            gcs_source=vertex_emulator.write_instances(*videos),
            gcs_destination_prefix=f"gs://{vertex_emulator.bucket}/out",
        )
        predictions = vertex_emulator.predictions(vertex_emulator.wait(job))
        assert predictions == [*videos[1].expected()[:2], track("dog", 2.0, 3.4)]
"""


def test_failed_expectation_links_to_the_first_difference(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WRONG)
    result = pytester.runpytest("-p", "no:xdist")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*on the video: http://127.0.0.1:*/results/2[?]with=gs%3A%2F%2F*.jsonl&t=*s",
            "*the page goes with the test; --vertex-emulator-keep keeps it",
        ]
    )
    assert "vertex-emulator serve" not in result.stdout.str()


def test_jobs_of_failed_tests_are_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WRONG + "\n    def test_right(vertex_emulator): pass\n")
    result = pytester.runpytest("-p", "no:xdist", "--vertex-emulator-keep")
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    command = re.search("vertex-emulator (serve --config (.*) --port ([0-9]+))", text)
    link = re.search(r"on the video: (http.*)", text)
    assert command is not None
    assert link is not None
    arguments = [sys.executable, "-m", "emulator", *command[1].split()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert f":{command[3]}" in server.stdout.readline()
            job = re.search("batch-predictions/([0-9]+)/results/2", link[1])
            assert job is not None
            query = urllib.parse.urlsplit(link[1]).query
            path = f"http://127.0.0.1:{command[3]}/_emulator/jobs/{job[1]}/results/2/compare?{query}"
            answer = json.loads(_OPENER.open(path).read())
        finally:
            server.terminate()
    assert [pair["expected"] for pair in answer["pairs"]] == [1, 2]
    assert answer["missed"][0]["nearest"].endswith("it begins 0.8 s too early")
    assert answer["extra"] == [3]


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def test_unknown_choice_of_keeping_is_refused(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("-o", "vertex_emulator_keep=all")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*vertex_emulator_keep = all: choose one of never, failed.*"])


def test_failed_fixture_shows_the_log(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def submit(emulator, instances):
            return emulator.aiplatform.BatchPredictionJob.submit(
                job_display_name="wrong",
                model_name=emulator.canned({"*": []}),
                gcs_source=instances,
                gcs_destination_prefix=f"gs://{emulator.bucket}/out",
            )

        @pytest.fixture
        def prepared(vertex_emulator):
            job = submit(vertex_emulator, f"gs://{vertex_emulator.bucket}/missing.jsonl")
            return vertex_emulator.predictions(vertex_emulator.wait(job))

        def test_of_a_fixture(prepared):
            pass

        @pytest.fixture
        def tidied(vertex_emulator):
            yield
            vertex_emulator.wait(submit(vertex_emulator, vertex_emulator.write_instances("gs://a-bucket/a.mp4")))
            raise AssertionError("not tidy")

        def test_that_fails_twice(tidied):
            raise AssertionError("wrong")
        """
    )
    result = pytester.runpytest("-p", "no:xdist")
    result.assert_outcomes(errors=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_of_a_fixture*",
            "*has no output: it is JOB_STATE_FAILED. Its error: *missing.jsonl*",
            "*Vertex emulator's log*",
            "*JOB_STATE_FAILED*",
            "*ERROR at teardown of test_that_fails_twice*",
            "*Vertex emulator's log*",
            "*JOB_STATE_SUCCEEDED*",
        ]
    )


@pytest.mark.slow
def test_parallel_workers_have_servers_of_their_own(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        """
        import os
        from pathlib import Path

        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_note(vertex_emulator, number):
            clip = vertex_emulator.upload_video()
            words = os.environ["PYTEST_XDIST_WORKER"], vertex_emulator.url, vertex_emulator.project
            with Path(os.environ["NOTES"]).open("a") as notes:
                notes.write(" ".join(words) + "\\n")
        """
    )
    notes = pytester.path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=4)
    written = [line.split() for line in notes.read_text().splitlines()]
    assert len({project for _, _, project in written}) == 4
    assert len({(worker, url) for worker, url, _ in written}) == len({worker for worker, _, _ in written})


@pytest.mark.slow
def test_server_ends_with_a_test_run_that_is_killed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, signal, sys

        def test_killed(vertex_emulator):
            with open("pid", "w") as file:
                file.write(str(vertex_emulator.server.process_id))
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:schemathesis"],
        cwd=pytester.path,
        timeout=120,
        check=False,
        capture_output=True,
    )
    pid = int((pytester.path / "pid").read_text())
    for _ in range(600):
        if not runs(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"{pid} still runs")


def runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return re.split(r"\) ", status)[-1][0] != "Z"


def test_server_that_cannot_start_says_why(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from emulator.config import SettingError
        from emulator.testing import ServerDied, serve

        def test_words(tmp_path):
            with pytest.raises(SettingError, match="'workrs' is not a setting; did you mean workers"):
                with serve({"workrs": 1}):
                    pass
            (tmp_path / "data").write_text("in the way")
            with pytest.raises(ServerDied, match="data folder .* cannot be used"):
                with serve(folder=tmp_path):
                    pass
        """
    )
    pytester.runpytest("-p", "no:xdist").assert_outcomes(passed=1)
