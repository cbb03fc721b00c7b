"""Writes model.onnx from the trained weights: `python models/video-object-tracking/export.py`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from network import INPUT, Detector

FOLDER = Path(__file__).parent
OPSET = 17
"""With it comes IR version 8, which every onnxruntime since 1.12 reads."""


def export(weights: Path, target: Path) -> None:
    """Writes the graph and checks that onnxruntime computes what PyTorch does."""
    model = Detector()
    state = torch.load(weights, weights_only=True)
    model.load_state_dict(state.get("average", state))
    model.eval()
    picture = torch.rand(1, 3, INPUT, INPUT, generator=torch.Generator().manual_seed(0)) * 255
    with warnings.catch_warnings():
        # The newer exporter writes IR versions that onnxruntime 1.20 does not know.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (picture,), target, input_names=["images"], output_names=["output"],
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    onnx.checker.check_model(onnx.load(target), full_check=True)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    computed = session.run(None, {"images": picture.numpy()})[0]
    np.testing.assert_allclose(computed, model(picture).detach().numpy(), atol=1e-3, rtol=1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the object tracking model's detector.")
    parser.add_argument("--weights", type=Path, default=FOLDER / "runs" / "final" / "weights.pt")
    parser.add_argument("--target", type=Path, default=FOLDER / "model.onnx")
    arguments = parser.parse_args()
    export(arguments.weights, arguments.target)
    print(f"{arguments.target} has {arguments.target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
