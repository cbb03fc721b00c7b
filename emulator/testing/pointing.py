"""Points the SDK at an emulator: through `aiplatform.init` and the channels that gRPC opens.

The SDK speaks gRPC over TLS only. A connection to the emulator's address is made in plain text instead, with
the same messages and errors.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

from emulator.testing.environment import changed

SDK = "google.cloud.aiplatform"
TRANSPORTS = ("grpc", "rest")
_GRPC = "grpc"
_NO_PROXY = ("grpc.enable_http_proxy", 0)


@dataclass(frozen=True)
class Target:
    """Where clients find the emulator.

    grpc_address: for plain-text gRPC, None if it is off. transport: of the clients, `grpc` or `rest`.
    token: the server's auth_token, if it has one.
    """

    project: str
    location: str
    url: str
    grpc_address: str | None
    transport: str
    token: str | None

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport is {self.transport!r}; use one of {', '.join(TRANSPORTS)}.")
        if self.transport == _GRPC and self.grpc_address is None:
            raise ValueError(
                "The emulator serves no gRPC; take `grpc: False` out of vertex_emulator_settings, or choose"
                " the other transport (`vertex_emulator_transport = rest`)."
            )

    @property
    def endpoint(self) -> str:
        """The `api_endpoint` for `aiplatform.init`."""
        return self.grpc_address if self.transport == _GRPC and self.grpc_address else self.url

    def as_json(self) -> str:
        """The target as a child process reads it."""
        return json.dumps(asdict(self))

    def credentials(self) -> Any:
        """Credentials with the server's token; anonymous ones if it needs none."""
        from google.auth.credentials import AnonymousCredentials
        from google.oauth2.credentials import Credentials

        return Credentials(token=self.token) if self.token else AnonymousCredentials()

    def channel(self, *, asynchronous: bool = False) -> Any:
        """A gRPC channel in plain text that sends the token."""
        import grpc

        from emulator.testing.grpc_token import async_token, with_token

        if asynchronous:
            interceptors = [async_token(self.token)] if self.token else None
            return grpc.aio.insecure_channel(self.grpc_address, [_NO_PROXY], interceptors=interceptors)
        channel = grpc.insecure_channel(self.grpc_address, [_NO_PROXY])
        return with_token(channel, self.token) if self.token else channel

    @contextmanager
    def pointed(self) -> Iterator[None]:
        """Point the SDK and gRPC here, now or once they are imported; restore both afterwards."""
        with ExitStack() as parts:
            for name, point in ((_GRPC, self._point_grpc), (SDK, self._point_sdk)):
                parts.enter_context(_when_imported(name, point))
            yield

    def stay(self) -> None:
        """Point the SDK and gRPC here as long as this process runs."""
        for name, point in ((_GRPC, self._point_grpc), (SDK, self._point_sdk)):
            sys.meta_path.insert(0, _OnImport(name, lambda module, point=point: point(module)))  # type: ignore

    def _point_grpc(self, grpc: Any) -> Callable[[], None]:
        plain, plain_async = grpc.secure_channel, grpc.aio.secure_channel

        def secure_channel(address: str, *arguments: Any, **options: Any) -> Any:
            is_ours = address == self.grpc_address
            return self.channel() if is_ours else plain(address, *arguments, **options)

        def secure_async(address: str, *arguments: Any, **options: Any) -> Any:
            is_ours = address == self.grpc_address
            return self.channel(asynchronous=True) if is_ours else plain_async(address, *arguments, **options)

        def put_back() -> None:
            grpc.secure_channel, grpc.aio.secure_channel = plain, plain_async

        grpc.secure_channel, grpc.aio.secure_channel = secure_channel, secure_async
        return put_back

    def _point_sdk(self, sdk: Any) -> Callable[[], None]:
        # The SDK keeps the arguments of `init` in one object of its module, which is restored afterwards.
        config = sdk.initializer.global_config
        before = dict(config.__dict__)
        shown = sdk.BatchPredictionJob.__repr__
        own = "__repr__" in sdk.BatchPredictionJob.__dict__

        def put_back() -> None:
            config.__dict__.clear()
            config.__dict__.update(before)
            if own:
                sdk.BatchPredictionJob.__repr__ = shown
            else:
                del sdk.BatchPredictionJob.__repr__

        sdk.init(
            project=self.project,
            location=self.location,
            api_endpoint=self.endpoint,
            api_transport=self.transport,
            credentials=self.credentials(),
        )
        sdk.BatchPredictionJob.__repr__ = lambda job: describe_job(job) or shown(job)
        return put_back


def describe_job(job: Any) -> str:
    """The SDK's job in a line: resource name, display name, state and error; "" before it was created."""
    message = getattr(job, "_gca_resource", None)
    if message is None or not getattr(message, "name", ""):
        return ""
    error = f", {message.error.message}" if message.error.message else ""
    return f"<BatchPredictionJob {message.name} {message.display_name!r}: {message.state.name}{error}>"


@contextmanager
def _when_imported(name: str, point: Callable[[Any], Callable[[], None]]) -> Iterator[None]:
    """Call `point` with a module, now or once it is imported; call its result at the end."""
    undo: list[Callable[[], None]] = []
    finder = _OnImport(name, lambda module: undo.append(point(module)))
    if name in sys.modules:
        undo.append(point(sys.modules[name]))
    else:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        for each in undo:
            each()


class _OnImport(MetaPathFinder):
    """Calls `then` with a module as soon as it has been imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:  # noqa: ARG002
        """Find the module as without this finder, and wrap its loader."""
        if name != self._name:
            return None
        at = sys.meta_path.index(self)
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(at, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, self._then)
        return spec


class _Then(Loader):
    """A loader that calls a function after another loader has loaded a module."""

    def __init__(self, loader: Any, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: Any) -> Any:
        """Leave it to the other loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load the module under its own loader, and call the function."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then(module)


@contextmanager
def pointed_here(target: Target, environment: dict[str, str], nowhere: str) -> Iterator[None]:
    """Set the process's environment and point the SDK here; restore both afterwards.

    Real credentials are hidden meanwhile, so that none can be sent anywhere: gcloud looks for its own in the
    folder `nowhere`.
    """
    hidden = {"GOOGLE_APPLICATION_CREDENTIALS": None, "GOOGLE_CLOUD_PROJECT": None, "GCLOUD_PROJECT": None}
    with changed({**hidden, "CLOUDSDK_CONFIG": nowhere, **environment}), target.pointed():
        yield
