"""Writes model.onnx from the trained weights: `python models/video-classification/export.py`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from network import INPUT, Head, Probabilities

FOLDER = Path(__file__).parent
OPSET = 17
"""With it comes IR version 8, which every onnxruntime since 1.12 reads."""


def export(weights: Path, target: Path) -> None:
    """Writes the graph and checks that onnxruntime computes what PyTorch does."""
    head = Head()
    head.load_state_dict(torch.load(weights, weights_only=True))
    model = Probabilities(head).eval()
    picture = torch.rand(1, 3, INPUT, INPUT, generator=torch.Generator().manual_seed(0)) * 255
    with warnings.catch_warnings():
        # The newer exporter writes IR versions that onnxruntime 1.20 does not know.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (picture,), target, input_names=["picture"], output_names=["scores"],
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    onnx.checker.check_model(onnx.load(target), full_check=True)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    computed = session.run(None, {"picture": picture.numpy()})[0]
    np.testing.assert_allclose(computed, model(picture).detach().numpy(), atol=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the video classification model.")
    parser.add_argument("--weights", type=Path, default=FOLDER / "runs" / "best.pt")
    parser.add_argument("--target", type=Path, default=FOLDER / "model.onnx")
    arguments = parser.parse_args()
    export(arguments.weights, arguments.target)
    print(f"{arguments.target} has {arguments.target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
