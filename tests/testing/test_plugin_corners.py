"""What the plugin makes of faults that never fire, a fixed project, the transport and wider scopes."""

import os

import google.cloud.aiplatform  # noqa: F401
import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def vertex_emulator_settings():
    return {"workers": 1, "bundled_models": False}
"""


@pytest.fixture(autouse=True)
def _quiet_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)
    pytester.makeconftest(CONFTEST)


def ini(pytester: pytest.Pytester, *lines: str) -> None:
    options = "addopts = -p no:schemathesis -p no:cacheprovider -p no:xdist -p no:asyncio"
    pytester.makeini("\n".join(["[pytest]", options, *lines]))


def test_a_fault_that_never_fires_fails_the_test(pytester: pytest.Pytester) -> None:
    ini(pytester)
    pytester.makepyfile(
        """
        import pytest

        def test_green_without_testing_anything(vertex_emulator, faults):
            faults.rpc("CancelBatchPredictionJob", code="UNAVAILABLE", times=1)

        def test_that_says_so(vertex_emulator, faults):
            faults.rpc("CancelBatchPredictionJob", code="UNAVAILABLE", may_not_fire=True)

        def test_that_fails_anyway(vertex_emulator, faults):
            faults.rpc("DeleteModel", code="UNAVAILABLE")
            raise AssertionError("something else")

        @pytest.fixture(scope="class")
        def emulator(vertex_emulator, vertex_emulator_factory):
            yield

        class TestScopes:
            def test_wrong(self, emulator):
                pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=2, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_green_without_testing_anything*",
            "1 of the test's faults never fired*",
            "*rpc CancelBatchPredictionJob, code='UNAVAILABLE', times=1>: no call fitted",
            "*may_not_fire=True*",
            "*ERROR at setup of TestScopes.test_wrong*",
            "*open a corner with `vertex_emulator_factory`*",
            "*something else*",
            "*Faults that never fired*",
            "*rpc DeleteModel, code='UNAVAILABLE'>: no call fitted",
        ]
    )


def test_project_and_transport_by_setting(pytester: pytest.Pytester) -> None:
    ini(pytester, "vertex_emulator_project = acme-video-prod", "vertex_emulator_transport = rest")
    pytester.makepyfile(
        """
        import pytest
        from google.api_core import exceptions

        @pytest.mark.parametrize("number", [1, 2])
        def test_fixed(vertex_emulator, number, canned, faults):
            assert vertex_emulator.project == "acme-video-prod"
            assert vertex_emulator.bucket != "acme-video-prod"
            assert [model.display_name for model in vertex_emulator.aiplatform.Model.list()] == []
            canned({"*": []})
            faults.rpc("ListModels", code="RESOURCE_EXHAUSTED")
            with pytest.raises(exceptions.TooManyRequests) as raised:
                vertex_emulator.aiplatform.Model.list()
            assert type(raised.value) is exceptions.TooManyRequests

        class TestWider:
            @pytest.fixture(scope="class")
            def emulator(self, vertex_emulator_factory):
                with vertex_emulator_factory("another-project") as emulator:
                    yield emulator

            def test_project(self, emulator):
                assert emulator.project == "another-project"
        """
    )
    pytester.runpytest().assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vertex_emulator_transport = http", "*vertex_emulator_transport = http: choose one of grpc, rest.*"),
        ("vertex_emulator_project = A B", "*vertex_emulator_project = A B: *"),
    ],
)
def test_a_setting_that_is_none_is_refused(pytester: pytest.Pytester, line: str, said: str) -> None:
    ini(pytester, line)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_a_guard_of_a_wider_scope_fails_the_test_that_reached(pytester: pytest.Pytester) -> None:
    ini(pytester)
    pytester.makepyfile(
        """
        import socket
        import threading

        import pytest

        GO, GONE = threading.Event(), threading.Event()

        def reach():
            with pytest.raises(ConnectionRefusedError):
                socket.getaddrinfo("storage.googleapis.com", 443)

        def later():
            GO.wait()
            reach()
            GONE.set()

        class TestAll:
            @pytest.fixture(scope="class")
            def emulator(self, vertex_emulator_factory):
                with vertex_emulator_factory() as emulator:
                    yield emulator

            def test_1_begins_a_thread(self, emulator):
                threading.Thread(target=later, daemon=True).start()

            def test_2_is_not_to_blame(self, emulator):
                GO.set()
                assert GONE.wait(60)

            def test_3_reaches_itself(self, emulator):
                thread = threading.Thread(target=reach, name="mine")
                thread.start()
                thread.join()

            def test_4_has_nothing_to_do_with_it(self, emulator):
                pass
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_3_reaches_itself*",
            "*tried to reach storage.googleapis.com in thread 'mine':*",
            "*test_a_guard_of_a_wider_scope*.py:* in reach*",
        ]
    )
