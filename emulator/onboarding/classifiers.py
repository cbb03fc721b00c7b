"""Recognises classifiers of clips, and of single frames whose scores are averaged over time.

A graph does not show whether its classes are actions or subjects of a video. Actions are assumed;
`--head scores` overrides that.
"""

from __future__ import annotations

from dataclasses import replace

from emulator.onboarding.graph import Graph, Output, between_0_and_1, metadata_literal
from emulator.onboarding.guess import IMAGENET, LOGITS, PROBABILITIES, Guess

#: The frames over which the scores of a single-frame classifier are averaged: 0.9 s at 10 a second.
SMOOTH = 9
#: Frames a second of MoViNet A0 to A2, the usual streams.
STREAM_RATE = 5


def clip(graph: Graph) -> Guess | str:
    """Scores [1, classes] of a clip, or of a picture."""
    scores = _scores(graph)
    if scores is None:
        return "it has one output with a score per class, [1, classes]"
    # Neither a softmax nor a sigmoid gives anything below 0; small logits of both signs are still logits.
    probabilities = between_0_and_1(scores.value) and float(scores.value.min()) >= 0
    activation = "none" if probabilities else "softmax"
    shape = "stream" if graph.is_stream else "clip" if graph.is_clip else "frame"
    rate = STREAM_RATE if graph.is_stream else 10
    assumptions = [
        "objective action_recognition: --head scores makes it a model for classification",
        *_pixels(graph),
        f"rate {rate} frames a second: the frame rate of the clips it was trained on",
    ]
    if graph.is_stream:
        assumptions.append(
            "moment 1.0: a stream's scores speak of the last frame it was shown; 0.5 where it looks ahead"
        )
    if activation == "softmax":
        assumptions.append("activation softmax: sigmoid fits if several actions can be true at once")
    if not graph.is_clip:
        assumptions.append(f"smooth {SMOOTH}: the frames are classified one by one, and so many are averaged")
    return Guess(
        head="clip",
        classes=scores.value.size,
        objective="action_recognition",
        input={**_preprocessing(graph), "fit": "crop-center"},
        output={
            **({"names": [scores.name]} if len(graph.outputs) > 1 else {}),
            "activation": activation,
        },
        findings=(
            f"{shape} classifier: input {graph.model.input(graph.input.name)} is {graph.input.layout}",
            *([f"states carried from clip to clip: {_pairs(graph)}"] if graph.is_stream else []),
            *([f"two pathways: {graph.input.slow_name} is the slow one"] if graph.input.slow_name else []),
            f"{scores.value.size} classes, scores are {LOGITS if activation == 'softmax' else PROBABILITIES}",
        ),
        assumptions=tuple(assumptions),
        others={
            "sampling": {"rate": rate},
            "actions": {
                "step": graph.input.frames if graph.is_stream else 1,
                "moment": 1.0 if graph.is_stream else 0.5,
                "min_confidence": 0.5,
                "window": 0.5,
                **({} if graph.is_clip else {"smooth": SMOOTH}),
            },
        },
    )


def scores(graph: Graph) -> Guess | str:
    """The same graph as a model that classifies videos, shots and seconds."""
    guess = clip(graph)
    if isinstance(guess, str):
        return guess
    assumptions = (
        *_pixels(graph),
        "rate 5 looks a second: more find what is seen for a moment only",
        *(
            ["activation softmax: sigmoid fits if several labels can be true at once"]
            if _is_softmax(guess)
            else []
        ),
    )
    return replace(
        guess,
        head="scores",
        objective="classification",
        assumptions=assumptions,
        others={
            "sampling": {"rate": 5},
            **({"classification": {"step": graph.input.frames}} if graph.is_stream else {}),
        },
    )


def _pairs(graph: Graph) -> str:
    return ", ".join(f"{old} from {new}" for old, new in graph.input.states)


def _is_softmax(guess: Guess) -> bool:
    return guess.output["activation"] == "softmax"


def _scores(graph: Graph) -> Output | None:
    named = graph.answer("output.names", None)
    states = {new for _, new in graph.input.states}
    flat = [
        output
        for output in graph.outputs
        if output.name not in states
        and output.value.size == max(output.value.shape)
        and output.value.size > 1
        and not _is_rows(output)
    ]
    if named:
        flat = [output for output in flat if output.name == named[0]]
    elif graph.labels is not None and len(flat) > 1:
        flat = [output for output in flat if output.value.size == len(graph.labels)]
    elif len(graph.outputs) > 1 and len(flat) > 1:
        flat = [output for output in flat if "logit" in output.name or "score" in output.name]
    alone = len(graph.outputs) - len(states) == 1
    return flat[0] if len(flat) == 1 and (named or graph.is_clip or alone) else None


def _is_rows(output: Output) -> bool:
    """Whether the output looks like one row of end-to-end detections, [1, 1, 6], rather than scores."""
    return output.value.ndim == 3 and output.value.shape[-1] in (6, 7)


def _preprocessing(graph: Graph) -> dict[str, object]:
    color: dict[str, object] = {"color": graph.input.color}
    if graph.takes_pixels:
        return color
    if _is_ultralytics(graph):
        return {**color, "scale": 1 / 255}
    if not graph.is_clip:
        return dict(IMAGENET) if graph.input.color == "RGB" else {**color, "scale": 1 / 255}
    if _is_tensorflows(graph):
        return {**color, "scale": 1 / 255}
    return {**color, "scale": 1 / 255, "mean": [0.45], "std": [0.225]}


def _is_ultralytics(graph: Graph) -> bool:
    """Whether the metadata is that of an Ultralytics classifier, which is trained on pixels from 0 to 1."""
    return bool(metadata_literal(graph.model, "task") == "classify")


def _is_tensorflows(graph: Graph) -> bool:
    """Whether the channels come last, as in TensorFlow, whose published clip models take 0 to 1."""
    return graph.is_clip and graph.input.layout.endswith("C")


def _pixels(graph: Graph) -> tuple[str, ...]:
    fit = "fit crop-center: stretch or letterbox-center would fit too"
    if graph.takes_pixels or _is_ultralytics(graph):
        return (fit,)
    if _is_tensorflows(graph):
        return ("scale 1/255, mean 0.0 and std 1.0 as for MoViNet and others of TensorFlow", fit)
    if graph.is_clip:
        return (
            "scale 1/255, mean 0.45, std 0.225 as for Kinetics models of PyTorchVideo; as the model "
            "was trained: mean [0.432, 0.395, 0.376] and std "
            "[0.228, 0.221, 0.217] (torchvision)",
            fit,
        )
    return (
        "scale 1/255, mean and std of ImageNet; Keras' classifiers often want scale 1/127.5, mean [1.0]",
        fit,
    )
