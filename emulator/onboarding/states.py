"""Recognises streams: graphs that take states besides the picture and return the next ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from emulator.inference.onnx_model import OnnxModel, TensorInfo

#: Parts of the names of states.
STATE_HINTS = ("state", "buffer", "hidden", "cache", "memory", "frame_count")
#: Words that tell an old state from a new one; without them both have the same name.
_OLD_OR_NEW = re.compile(
    r"(^|[_./])(new|next|old|prev|previous|past|present|in|out|input|output|updated|serving_default)(?=[_./]|$)"
)


def is_state(tensor: TensorInfo) -> bool:
    """Whether an input has the name of a state."""
    return any(hint in tensor.name.lower() for hint in STATE_HINTS)


def carried(model: OnnxModel, pictures: Sequence[TensorInfo], assumptions: list[str]) -> Mapping[str, str]:
    """Inputs that are states, each with the output that provides it for the next clip.

    An input is a state if an output has its name, type and shape. If the names tell nothing, outputs and
    inputs of one type and shape are paired in order, provided that there are equally many.
    """
    inputs = [tensor for tensor in model.inputs if tensor not in pictures and tensor.shape]
    by_name = dict(_by_name(inputs, model.outputs))
    rest = [tensor for tensor in inputs if tensor.name not in by_name]
    free = [tensor for tensor in model.outputs if tensor.name not in by_name.values()]
    by_order = dict(_by_order(rest, free))
    if by_order:
        pairs = ", ".join(f"{old} from {new}" for old, new in by_order.items())
        assumptions.append(
            f"states {pairs}: by their order, as names say nothing; another order would fit too: --set "
            "input.states=…"
        )
    return by_name | by_order


def _by_name(inputs: Iterable[TensorInfo], outputs: Sequence[TensorInfo]) -> Iterable[tuple[str, str]]:
    for tensor in inputs:
        stem = _stem(tensor.name)
        alike = [one for one in outputs if _stem(one.name) == stem and _fits(tensor, one)]
        if stem and len(alike) == 1:
            yield tensor.name, alike[0].name


def _by_order(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Iterable[tuple[str, str]]:
    for kind in dict.fromkeys((tensor.shape, tensor.type) for tensor in inputs):
        olds = [tensor for tensor in inputs if (tensor.shape, tensor.type) == kind]
        news = [tensor for tensor in outputs if (tensor.shape, tensor.type) == kind]
        if len(olds) == len(news) and all(map(_may_be_state, olds)):
            yield from zip((one.name for one in olds), (one.name for one in news), strict=True)


def _may_be_state(tensor: TensorInfo) -> bool:
    return is_state(tensor) or (len(tensor.shape) > 2 and "mask" not in tensor.name.lower())


def _fits(old: TensorInfo, new: TensorInfo) -> bool:
    same = len(old.shape) == len(new.shape) and old.type == new.type
    return same and all(a == b or None in (a, b) for a, b in zip(old.shape, new.shape, strict=True))


def _stem(name: str) -> str:
    bare = re.sub(r":\d+$", "", name.lower())
    while (shorter := _OLD_OR_NEW.sub("", bare).strip("_./")) != bare:
        bare = shorter
    return bare
