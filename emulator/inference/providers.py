"""Runs graphs on onnxruntime's execution providers.

onnxruntime silently falls back to the CPU if a provider's libraries are missing, or if a provider fails in
the middle of a video. Here a session runs on the provider that is reported for it: a provider asked for by
name is used or refused, and only `auto` may take the next one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.inference.manifest import ModelUnusable
from emulator.inference.pipeline import core_count

# onnxruntime reads this when it is imported. Its recent wheels report their use over the network and leave a
# session file in the temporary folder. An emulator that promises to work offline does neither.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

VERSION: str = ort.__version__

log = logging.getLogger(__name__)

Options = dict[str, str]

_GPU_WHEEL = "onnxruntime-gpu"
AUTO = "auto"
CPU = "cpu"
_OR = f"or set the provider to {CPU} or {AUTO}"


@dataclass(frozen=True)
class Provider:
    """An execution provider: onnxruntime's name for it, the wheel that contains it, and its other needs.

    options: gives the options for repeatable results, by the number of simultaneous calls. automatic: whether
    `auto` may choose it. after: the provider that computes, if present, what this one cannot.
    """

    ep: str
    wheel: str
    needs: str
    options: Callable[[int], Options] = field(default=lambda _calls: {})
    automatic: bool = True
    after: str = ""


def _cuda(_calls: int) -> Options:
    # The exhaustive search measures times, so its choice of convolutions may vary. TF32 keeps only ten bits
    # of the mantissa.
    return {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


def _tensorrt(_calls: int) -> Options:
    # Building an engine takes minutes, and measured times decide its results: so it is built once and cached.
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(_engine_cache()),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(_engine_cache()),
        "trt_fp16_enable": "0",
    }


def _openvino(calls: int) -> Options:
    # OpenVINO computes the calls of several threads in parallel only if it has a stream for each.
    return {"device_type": "CPU", "num_of_threads": str(calls), "num_streams": str(calls)}


#: Setting -> provider, in the order in which `auto` tries them.
PROVIDERS: dict[str, Provider] = {
    # Emulator: not automatic, because users would not expect the minutes that building an engine takes.
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        _GPU_WHEEL,
        "an NVIDIA driver with CUDA, cuDNN and TensorRT",
        _tensorrt,
        automatic=False,
        after="cuda",
    ),
    "cuda": Provider("CUDAExecutionProvider", _GPU_WHEEL, "an NVIDIA driver with CUDA and cuDNN", _cuda),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino", "nothing else", _openvino),
    CPU: Provider("CPUExecutionProvider", "onnxruntime", "nothing else"),
}


class SessionFailed(Exception):
    """onnxruntime refused the graph; `__cause__` is its own exception."""


def open_session(path: Path, provider: str, calls: int) -> tuple[str, ort.InferenceSession]:
    """A session and the name of its provider, for `calls` simultaneous calls (0: as many as cores).

    Raises:
        ModelUnusable: the provider is unknown, not installed, or did not start.
        SessionFailed: the graph itself cannot be loaded.
    """
    *preferred, last = _candidates(provider)
    for name in preferred:
        try:
            return name, _start(path, name, calls)
        except (ModelUnusable, SessionFailed) as error:
            log.warning("%s does not run on %s, so the next provider is tried: %s", path, name, error)
    return last, _start(path, last, calls)


def _candidates(provider: str) -> list[str]:
    available = ort.get_available_providers()
    here = [name for name, known in PROVIDERS.items() if known.ep in available]
    if provider == AUTO:
        return [name for name in here if PROVIDERS[name].automatic]
    if provider not in PROVIDERS:
        known = ", ".join([AUTO, *PROVIDERS])
        raise ModelUnusable(f"unknown provider {provider!r}; it must be one of {known}")
    if provider not in here:
        raise ModelUnusable(
            f"provider {provider} was asked for, but onnxruntime here offers {', '.join(here)}; put "
            f"{PROVIDERS[provider].wheel} in the place of the onnxruntime that is installed, {_OR}"
        )
    return [provider]


def _start(path: Path, name: str, calls: int) -> ort.InferenceSession:
    if PROVIDERS[name].wheel == _GPU_WHEEL:
        _load_libraries()
    used = [name, PROVIDERS[name].after] if PROVIDERS[name].after else [name]
    chain = [(PROVIDERS[one].ep, PROVIDERS[one].options(calls or core_count())) for one in used]
    try:
        # onnxruntime's own fallback would print to standard output, and stay on the CPU for good.
        session = ort.InferenceSession(str(path), _session_options(), providers=chain, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        if name != CPU and _loads_on_cpu(path):
            raise ModelUnusable(
                f"provider {name} was asked for, but onnxruntime could not start it: {_own_words(error)}"
                f" The model itself is sound. See that there is {PROVIDERS[name].needs}, {_OR}"
            ) from error
        raise SessionFailed(f"{f'on {name}: ' if name != CPU else ''}{first_line(error)}") from error
    if PROVIDERS[name].ep not in session.get_providers():
        raise ModelUnusable(
            f"provider {name} was asked for, but onnxruntime could not start it: its libraries are missing "
            f"or no device was found. See that there is {PROVIDERS[name].needs}, {_OR}"
        )
    here, elsewhere = _nodes(session, PROVIDERS[name].ep)
    if elsewhere and not here:
        raise ModelUnusable(
            f"provider {name} was asked for, but can compute no node of {path}; take another, {_OR}"
        )
    share = f", but for {elsewhere} of its {here + elsewhere} nodes" if elsewhere else ""
    log.info("%s runs on %s%s.", path, name, share)
    return session


def _own_words(error: Exception) -> str:
    """The message of an onnxruntime exception, without the location in its source."""
    return re.sub(r"^/\S+:\d+ .*?\) (?=[A-Z])", "", first_line(error)).rstrip(".") + "."


def _loads_on_cpu(path: Path) -> bool:
    """Whether the graph is sound: if so, the provider is at fault, whatever its exception says."""
    try:
        ort.InferenceSession(str(path), _session_options(), providers=[PROVIDERS[CPU].ep], enable_fallback=0)
    except Exception:
        return False
    return True


def _load_libraries() -> None:
    """Load CUDA and cuDNN from their wheels, if installed: the system does not search there."""
    if hasattr(ort, "preload_dlls"):  # since 1.21
        said = io.StringIO()
        # It prints, but standard output may carry predictions.
        with contextlib.redirect_stdout(said):
            ort.preload_dlls()
        log.debug("onnxruntime looks for its libraries: %s", said.getvalue().strip() or "all is well")


def _nodes(session: ort.InferenceSession, ep: str) -> tuple[int, int]:
    """The numbers of the graph's nodes on the provider and on others; zeros if not known."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before 1.24
        return 0, 0
    counts = Counter[bool]()
    for piece in session.get_provider_graph_assignment_info():
        counts[piece.ep_name == ep] += len(piece.get_nodes())
    return counts[True], counts[False]


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    # One thread per call and many callers beat many threads per call, and do not collapse on a busy machine.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def run_options() -> ort.RunOptions:
    """Options for calls: failures are raised, and not also written to standard error."""
    options = ort.RunOptions()
    options.log_severity_level = 4
    return options


def _engine_cache() -> Path:
    """TensorRT's engine cache. It lies in the user's cache folder, as a model's folder may be read-only."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "vertex-emulator" / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def first_line(error: Any) -> str:
    """The first line of an onnxruntime exception, without its trace."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
