"""One ONNX graph and the session that runs it. A call uses one thread; any number may run at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.files import cause, open_regular
from emulator.inference.manifest import ModelUnusable
from emulator.inference.model_files import external_files
from emulator.inference.providers import CPU, VERSION, SessionFailed, first_line, open_session, run_options

#: The types that a picture may have; further inputs may also be whole numbers.
DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}
OTHER_DTYPES: dict[str, type[np.generic]] = DTYPES | {
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
#: The limit of protocol buffers, and so of ONNX, for one file.
MOST_BYTES = 2**31 - 1
# A graph whose weights lie in other files is smaller than this.
_SMALL_GRAPH_BYTES = 100 << 20


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the graph; None in the shape is an axis of free length."""

    name: str
    shape: tuple[int | None, ...]
    type: str

    def __str__(self) -> str:
        return f"{self.name} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape fits."""
        return len(shape) == len(self.shape) and all(
            mine in (None, size) for mine, size in zip(self.shape, shape, strict=True)
        )


class OnnxModel:
    """A loaded graph. `run` is thread-safe; on the CPU it uses only the calling thread."""

    def __init__(self, path: Path, *, provider: str = CPU, calls: int = 0) -> None:
        """Load the graph on a provider of `PROVIDERS`, or with `auto` on the first installed one that works.

        `calls` is the number of simultaneous calls of `run`; 0 means the number of cores.

        Raises:
            ModelUnusable: the file is missing or not ONNX, or the provider is not available.
        """
        self.path = path
        self.provider, self._session = _open(path, provider, calls)
        self._run_options = run_options()
        self.inputs = tuple(_tensor_info(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor_info(node) for node in self._session.get_outputs())

    @property
    def metadata(self) -> dict[str, str]:
        """The graph's own key-value metadata (Ultralytics and others store labels there)."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def input(self, name: str = "") -> TensorInfo:
        """The input called `name`, or the first one."""
        for tensor in self.inputs:
            if not name or tensor.name == name:
                return tensor
        known = ", ".join(tensor.name for tensor in self.inputs)
        raise ModelUnusable(f"{self.path} has no input {name!r}; [input] name must be one of {known}")

    def output_names(self, names: Sequence[str]) -> list[str]:
        """`names`, or all outputs of the graph if it is empty. Raises ModelUnusable for an unknown one."""
        known = [tensor.name for tensor in self.outputs]
        for name in names:
            if name not in known:
                raise ModelUnusable(
                    f"{self.path} has no output {name!r}; [output] names must be of {', '.join(known)}"
                )
        return list(names) or known

    def has_batch_axis(self, names: Sequence[str]) -> bool:
        """Whether these outputs have a batch axis before the two axes of a table."""
        return all(len(tensor.shape) > 2 for tensor in self.outputs if tensor.name in names)

    def run(self, names: Sequence[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the outputs called `names`.

        Raises:
            ModelUnusable: onnxruntime refused the input or failed while computing.
        """
        try:
            return list(self._session.run(names, feed, self._run_options))
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ModelUnusable(f"{self.path} failed while running: {first_line(error)}") from error


def _open(path: Path, provider: str, calls: int) -> tuple[str, Any]:
    _check_file(path)
    try:
        return open_session(path, provider, calls)
    except SessionFailed as error:
        raise ModelUnusable(
            f"{path} cannot be loaded as an ONNX model: {_reason(path, str(error))}"
        ) from error


def _check_file(path: Path) -> None:
    if (path / "saved_model.pb").exists():
        raise ModelUnusable(_of_another_format(path, "a TensorFlow SavedModel", "--saved-model"))
    try:
        with open_regular(path) as file:
            head = file.read(64)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelUnusable(
            f"{path} cannot be read ({cause(error)}); [model] file in model.toml must name the ONNX graph"
        ) from error
    if not head:
        raise ModelUnusable(f"{path} is empty; export the model again")
    if head[4:8] == b"TFL3":
        raise ModelUnusable(_of_another_format(path, "a TFLite model", "--tflite"))
    if head.startswith((b"PK\x03\x04", b"\x89HDF")):
        raise ModelUnusable(
            f"{path} is a checkpoint of PyTorch or Keras, not an ONNX file; export the model with the "
            "framework's own exporter"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ModelUnusable(f"{path} is a Git LFS pointer, not a model; run `git lfs pull`")
    if size > MOST_BYTES:
        raise ModelUnusable(
            f"{path} has {size / 2**30:.1f} GiB, but an ONNX file ends at 2 GiB; save it with its weights as "
            "external data: onnx.save(model, path, save_as_external_data=True)"
        )
    if size <= _SMALL_GRAPH_BYTES:
        _check_weights(path)


def _of_another_format(path: Path, kind: str, flag: str) -> str:
    return (
        f"{path} is {kind}, not an ONNX file; convert it first: pip install tf2onnx tensorflow-cpu && "
        f"python -m tf2onnx.convert {flag} {path} --output model.onnx --opset 17"
    )


def _check_weights(path: Path) -> None:
    """Refuse weights that are not a regular file: onnxruntime opens them, and would block on a named pipe."""
    for name in external_files(path):
        weights = path.parent / name
        if _exists(weights) and not _is_file(weights):
            raise ModelUnusable(f"{path} has its weights in {name}, which is no regular file; put them there")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _tensor_info(node: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    return TensorInfo(node.name, shape, node.type)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _reason(path: Path, text: str) -> str:
    """Why onnxruntime could not load the graph, and what to do about it."""
    missing = [name for name in external_files(path) if not _is_file(path.parent / name)]
    if missing:
        return (
            f"its weights are in {', '.join(missing)}, which must lie beside it; copy that file too, or "
            "export the model as one file"
        )
    unknown = re.search(r"(\S+?)(?:\(-?\d+\))? is not a registered function/op", text)
    if unknown:
        return (
            f"it asks for the operator {unknown[1]}, which onnxruntime {VERSION} does not have; "
            "export it with standard ONNX operators only"
        )
    if "opset" in text.lower() or "IR version" in text:
        return f"{text}; export it with an older opset, or install a newer onnxruntime than {VERSION}"
    return f"{text}; export it again"
