"""The emulator in the environment of this SDK, with the protobuf and gRPC that both can use."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.cloud import aiplatform_v1

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("emulator") is None, reason="the emulator is not in this environment"
)


def test_server_runs_beside_the_sdk(tmp_path: Path) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    command = [sys.executable, "-m", "emulator", "serve", "--port", "0", "--workers", "1"]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [*command, "--data-dir", tmp_path], stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        assert server.stdout is not None
        try:
            lines = [server.stdout.readline() for _ in range(2)]
            assert "gRPC" in lines[1], (tmp_path / "log").read_text()
            with grpc.insecure_channel(lines[1].split()[-1]) as channel:
                transport = aiplatform_v1.ModelServiceClient.get_transport_class("grpc")(channel=channel)
                models = aiplatform_v1.ModelServiceClient(transport=transport).list_models(
                    parent="projects/my-project/locations/us-central1"
                )
                assert "video-object-tracking" in [model.display_name for model in models]
                health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert health.status == health_pb2.HealthCheckResponse.SERVING
        finally:
            server.terminate()
