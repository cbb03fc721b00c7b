"""Exports models from frameworks, adds them, and holds them beside the frameworks' own post-processing.

    python tests/accuracy/frameworks.py VIDEO [--only NAME ...] [--frames 20] [--out FOLDER]

Runs in an environment of its own with torch, torchvision, transformers, timm, ultralytics, pytorchvideo,
effdet and pixeltable-yolox (CPU wheels do) beside this project. Nothing is downloaded, so weights are random,
their statistics taken from the video's frames and their scores spread out. So it shows that a graph is
recognised and read rightly, not that it finds anything. Both sides get the same tensor; the framework's own
model and post-processing answer for one, the exported graph and this project for the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from emulator.inference.heads import DETECTION_HEADS, ClipHead, suppress
from emulator.inference.manifest import ModelManifest, ModelUnusable
from emulator.inference.objectives import open_predictor
from emulator.inference.onnx_model import OnnxModel
from emulator.inference.preprocess import Geometry, ModelInput
from emulator.onboarding import named_labels, recognise, write_folder

#: Detections that are compared in each frame, best first, and how far apart they may be.
TOP = 20
WORST_PIXELS, WORST_SCORE = 0.5, 1e-3
LEAST = 0.01
LOGITS_STD = 1.5

#: Boxes xyxy in the input's pixels, scores, classes counted from the first label.
Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
#: The framework's answer to the tensors that the graph is fed with.
Reference = Callable[[Mapping[str, torch.Tensor]], Found | torch.Tensor]


@dataclass
class Case:
    """One model: what exports it, and what is said to `models add`."""

    framework: str
    export: Callable[[Path, torch.Tensor], Reference]
    size: tuple[int, ...]
    """Of the tensor that the model's statistics are taken from: [1, 3, (frames,) height, width]."""
    labels: Sequence[str] | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None
    refused: str = ""
    """What the refusal says, where the model is to be refused."""


@dataclass
class Result:
    """One line of the table."""

    name: str
    framework: str
    said: str
    outcome: str
    compared: int = 0
    missing: int = 0
    pixels: float = 0.0
    score: float = 0.0


def numbered(count: int) -> list[str]:
    return [f"thing {number}" for number in range(count)]


def lively(model: nn.Module, tensor: Any, run: Callable[[], object] | None = None) -> None:
    """Give batch normalisation the statistics of real frames: what is random then depends on the picture."""
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        run() if run else model(tensor)
    model.eval()


def spread(layers: Sequence[nn.Module], run: Callable[[], object], bias: float | None = None) -> None:
    """Make the logits of these last layers differ by some units: neither all alike nor all certain."""
    seen: dict[nn.Module, float] = {}

    def look(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        seen[layer] = max(1e-6, float(output.std()))

    hooks = [layer.register_forward_hook(look) for layer in layers]
    with torch.no_grad():
        run()
        for layer, deviation in seen.items():
            layer.weight.mul_(LOGITS_STD / deviation)
            if bias is not None and layer.bias is not None:
                layer.bias.fill_(bias)
    for hook in hooks:
        hook.remove()


def to_onnx(model: nn.Module, inputs: Any, path: Path, **options: Any) -> None:
    torch.onnx.export(model, inputs, str(path), dynamo=False, opset_version=17, **options)


# Ultralytics


def ultralytics(yaml: str, nms: bool = False, task: str | None = None, **options: Any) -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        from ultralytics import YOLO
        from ultralytics.utils.nms import non_max_suppression

        yolo = YOLO(yaml, task=task)
        model = yolo.model
        lively(model, tensor)
        last = model.model[-1]
        for name in ("cv3", "one2one_cv3"):
            spread(
                [one[-1] for one in getattr(last, name, []) if isinstance(one[-1], nn.Conv2d)],
                lambda: model(tensor),
                -3.0,
            )
        size = list(tensor.shape[2:])
        made = yolo.export(format="onnx", imgsz=size, simplify=False, opset=17, nms=nms, conf=LEAST, iou=0.45)
        Path(made).rename(path)
        classes = len(model.names)

        def reference(feed: Mapping[str, torch.Tensor]) -> Found | torch.Tensor:
            answer = model.eval()(feed["images"])
            answer = answer[0] if isinstance(answer, tuple | list) else answer
            answer = answer[0] if isinstance(answer, tuple | list) else answer
            if yolo.task == "classify":
                return answer[0] if abs(float(answer.sum()) - 1) < 1e-3 else answer.softmax(1)[0]
            if answer.shape[-1] < 100:  # finished
                rows = answer[0]
            else:
                (rows,) = non_max_suppression(answer, LEAST, 0.45, nc=classes, max_det=300)
            if "rtdetr" in yaml:
                scores, labels = rows[:, 4:].max(1)
                half, scale = rows[:, 2:4] / 2, torch.tensor(size[::-1] * 2)
                return torch.cat([rows[:, :2] - half, rows[:, :2] + half], 1) * scale, scores, labels
            return rows[:, :4], rows[:, 4], rows[:, 5].long()

        return reference

    size = (1, 3, 224, 224) if "cls" in yaml else (1, 3, 256, 320)
    return Case("Ultralytics", export, size, **options)


# torchvision


def tv_detector(name: str, size: int, **make: Any) -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        import torchvision

        options = {"weights": None, "weights_backbone": None, "num_classes": 11}
        model = getattr(torchvision.models.detection, name)(**options, **make)
        for attribute in ("score_thresh", "box_score_thresh"):
            for part in (model, getattr(model, "roi_heads", None)):
                if hasattr(part, attribute.removeprefix("box_")):
                    setattr(part, attribute.removeprefix("box_"), LEAST)
        lively(model, tensor, lambda: _with_trained_norms(model.eval(), tensor))
        heads = [one for key, one in model.named_modules() if key.endswith(("cls_logits", "cls_score"))]
        heads += [
            one[-1] for key, one in model.named_modules() if key.endswith("classification_head.module_list")
        ]
        spread([one for one in heads if hasattr(one, "weight")], lambda: model([tensor[0]]))
        names = ["boxes", "scores", "labels"] if "rcnn" not in name else ["boxes", "labels", "scores"]
        names += (
            ["masks"] if "mask" in name else ["keypoints", "keypoint_scores"] if "keypoint" in name else []
        )
        axes = {one: {0: "n"} for one in names}
        to_onnx(model, ([tensor[0]],), path, input_names=["images"], output_names=names, dynamic_axes=axes)

        def reference(feed: Mapping[str, torch.Tensor]) -> Found:
            (answer,) = model([feed["images"]])
            return answer["boxes"], answer["scores"], answer["labels"] - 1

        return reference

    return Case("torchvision", export, (1, 3, size, size), numbered(10))


def _with_trained_norms(model: nn.Module, tensor: torch.Tensor) -> None:
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.train()
    # Two pictures, as normalisation cannot learn from a single number.
    model([tensor[0], tensor[0].flip(2)])


def classifier(
    make: Callable[[], nn.Module], framework: str, *size: int, count: int = 9, **options: Any
) -> Case:
    """A classifier of clips or pictures that gives logits (or, for some, probabilities)."""

    def export(path: Path, tensor: torch.Tensor) -> Reference:
        model = make().eval()
        lively(model, [tensor[:, :, :: tensor.shape[2] // 8], tensor] if options.get("slow") else tensor)
        last = [one for one in model.modules() if isinstance(one, nn.Linear | nn.Conv3d)][-1]
        inputs = tensor
        if options.get("slow"):
            inputs = [tensor[:, :, :: tensor.shape[2] // 8], tensor]
        spread([last], lambda: model(inputs))
        names = ["slow", "fast"] if options.get("slow") else ["input"]
        to_onnx(model, (inputs,), path, input_names=names, output_names=["scores"])

        def reference(feed: Mapping[str, torch.Tensor]) -> torch.Tensor:
            given = [feed[one] for one in names]
            answer = model(given if options.get("slow") else given[0])
            answer = getattr(answer, "logits", answer)[0]
            return answer if abs(float(answer.sum()) - 1) < 1e-3 and answer.min() >= 0 else answer.softmax(0)

        return reference

    said = {key: value for key, value in options.items() if key != "slow"}
    return Case(framework, export, size, numbered(count), **said)


def tv_video(name: str, *size: int) -> Case:
    def make() -> nn.Module:
        import torchvision

        return getattr(torchvision.models.video, name)(weights=None, num_classes=9)

    answers = {"input.mean": [0.432, 0.395, 0.376], "input.std": [0.228, 0.221, 0.217]}
    return classifier(make, "torchvision", *size, answers=answers)


def timm_model(name: str) -> Case:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=9)

    return classifier(make, "timm", 1, 3, 224, 224, head="scores")


def x3d() -> nn.Module:
    from pytorchvideo.models.x3d import create_x3d

    return create_x3d(input_clip_length=4, input_crop_size=160, model_num_class=9)


def slowfast() -> nn.Module:
    from pytorchvideo.models.slowfast import create_slowfast

    return create_slowfast(model_num_class=9, model_depth=18)


def slow() -> nn.Module:
    from pytorchvideo.models.resnet import create_resnet

    return create_resnet(model_num_class=9, model_depth=50)


def hf_video(name: str, *size: int, **config: Any) -> Case:
    def make() -> nn.Module:
        import transformers

        settings = getattr(transformers, f"{name}Config")(num_labels=9, **config)
        return getattr(transformers, f"{name}ForVideoClassification")(settings)

    def wrapped() -> nn.Module:
        return _Logits(make())

    imagenet = {"input.mean": [0.485, 0.456, 0.406], "input.std": [0.229, 0.224, 0.225]}
    return classifier(wrapped, "Transformers", *size, answers=imagenet)


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values).logits


class _Pair(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answer = self.model(pixel_values=pixel_values)
        return answer.logits, answer.pred_boxes


def hf_detector(
    name: str,
    processor: str,
    *,
    softmax: bool = False,
    answers: Mapping[str, Any] | None = None,
    **config: Any,
) -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        import transformers

        settings = getattr(transformers, f"{name}Config")(num_labels=10, **config)
        model = getattr(transformers, f"{name}ForObjectDetection")(settings).eval()
        lively(model, tensor)
        heads = [one for key, one in model.named_modules() if "class" in key and isinstance(one, nn.Linear)]
        spread(heads, lambda: model(pixel_values=tensor))
        pair = _Pair(model).eval()
        to_onnx(pair, (tensor,), path, input_names=["pixel_values"], output_names=["logits", "pred_boxes"])
        theirs = getattr(transformers, processor)()
        height, width = tensor.shape[2:]

        def reference(feed: Mapping[str, torch.Tensor]) -> Found:
            answer = model(pixel_values=feed["pixel_values"])
            (found,) = theirs.post_process_object_detection(answer, LEAST, target_sizes=[(height, width)])
            return found["boxes"], found["scores"], found["labels"]

        return reference

    size = config.pop("picture", 320)
    said = {"output.activation": "softmax" if softmax else "sigmoid", **(answers or {})}
    return Case("Transformers", export, (1, 3, size, size), numbered(10), said)


# Others


def yolox(decoded: bool) -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        from yolox.config import YoloxConfig
        from yolox.utils import postprocess

        model = YoloxConfig.get_named_config("yolox_nano").get_model().eval()
        lively(model, tensor)
        spread([*model.head.cls_preds, *model.head.obj_preds], lambda: model(tensor), -1.0)
        model.head.decode_in_inference = decoded
        to_onnx(model, (tensor,), path, input_names=["images"], output_names=["output"])

        def reference(feed: Mapping[str, torch.Tensor]) -> Found:
            model.head.decode_in_inference = True
            (rows,) = postprocess(model(feed["images"]), 80, LEAST, 0.45 if decoded else 0.65)
            return rows[:, :4], rows[:, 4] * rows[:, 5], rows[:, 6].long()

        return reference

    bgr = {"input.color": "BGR", "input.scale": 1.0, "input.fit": "letterbox-top-left"} if decoded else {}
    return Case("pixeltable-yolox", export, (1, 3, 256, 320), named_labels("coco80"), bgr)


def effdet_d0() -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        import effdet

        config = effdet.get_efficientdet_config("tf_efficientdet_d0")
        config.image_size, config.num_classes, config.soft_nms = [256, 256], 10, False
        net = effdet.EfficientDet(config, pretrained_backbone=False)
        lively(net, tensor)
        spread([net.class_net.predict.conv_pw], lambda: net(tensor), -3.0)
        model = effdet.DetBenchPredict(net).eval()
        to_onnx(model, (tensor,), path, input_names=["images"], output_names=["detections"])

        def reference(feed: Mapping[str, torch.Tensor]) -> Found:
            rows = model(feed["images"])[0]
            return rows[:, :4], rows[:, 4], rows[:, 5].long() - 1

        return reference

    said = {"output.first_class": 1, "input.mean": [0.485, 0.456, 0.406], "input.std": [0.229, 0.224, 0.225]}
    return Case("effdet", export, (1, 3, 256, 256), numbered(10), said)


def with_text(name: str) -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        import transformers

        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = getattr(transformers, f"{name}Config")(
            text_config=small, vision_config={**small, "image_size": 224, "patch_size": 32}, projection_dim=16
        )
        model = getattr(transformers, f"{name}Model")(config).eval()

        class Scores(nn.Module):
            def forward(self, pixel_values: Any, input_ids: Any, attention_mask: Any) -> Any:
                answer = model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
                return answer.logits_per_image

        ids = torch.ones(5, 7, dtype=torch.long)
        names = ["pixel_values", "input_ids", "attention_mask"]
        to_onnx(Scores(), (tensor, ids, ids), path, input_names=names, output_names=["logits_per_image"])
        return lambda _: torch.zeros(0)

    return Case(
        "Transformers", export, (1, 3, 224, 224), numbered(5), refused="takes text beside the picture"
    )


class _Shift(nn.Module):
    """TSM online (Lin et al., ICCV 2019): a share of the channels comes from the frame before, as a state."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.second = nn.Conv2d(16, 32, 3, 2, 1)
        self.last = nn.Linear(32, 9)

    def forward(self, image: torch.Tensor, shift_buffer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.first(image).relu()
        mixed = torch.cat([shift_buffer, seen[:, 2:]], 1)
        return self.last(self.second(mixed).relu().mean((2, 3))), seen[:, :2]


def tsm() -> Case:
    def export(path: Path, tensor: torch.Tensor) -> Reference:
        model = _Shift().eval()
        state = torch.zeros(1, 2, 112, 112)
        names = ["image", "shift_buffer"]
        outputs = ["logits", "shift_buffer_out"]
        to_onnx(model, (tensor, state), path, input_names=names, output_names=outputs)
        return lambda feed: model(feed["image"], feed["shift_buffer"])[0][0].softmax(0)

    return Case("by hand after the paper", export, (1, 3, 224, 224), numbered(9))


CASES: Mapping[str, Case] = {
    "yolov3-tiny": ultralytics("yolov3-tiny.yaml"),
    "yolov5n": ultralytics("yolov5n.yaml"),
    "yolov6n": ultralytics("yolov6n.yaml"),
    "yolov8n": ultralytics("yolov8n.yaml"),
    "yolov9t": ultralytics("yolov9t.yaml"),
    "yolov10n": ultralytics("yolov10n.yaml"),
    "yolo11n": ultralytics("yolo11n.yaml"),
    "yolo12n": ultralytics("yolo12n.yaml"),
    "yolo26n": ultralytics("yolo26n.yaml"),
    "yolo11n, nms=True": ultralytics("yolo11n.yaml", nms=True),
    "yolov8n-p2": ultralytics("yolov8n-p2.yaml"),
    "yolov8n-seg": ultralytics("yolov8n-seg.yaml"),
    "yolo11n-seg": ultralytics("yolo11n-seg.yaml"),
    "yolo26n-seg": ultralytics("yolo26n-seg.yaml"),
    "yolov8n-pose": ultralytics("yolov8n-pose.yaml"),
    "yolo11n-pose": ultralytics("yolo11n-pose.yaml"),
    "yolo26n-pose": ultralytics("yolo26n-pose.yaml"),
    "yolo11n-obb": ultralytics("yolo11n-obb.yaml", refused="is a model for obb"),
    "yolo26n-obb": ultralytics("yolo26n-obb.yaml", refused="is a model for obb"),
    "yolo11n-cls": ultralytics("yolo11n-cls.yaml", head="scores"),
    "yolo26n-cls": ultralytics("yolo26n-cls.yaml", head="scores"),
    "yolov8s-worldv2": ultralytics("yolov8s-worldv2.yaml"),
    "rtdetr-resnet50": ultralytics("rtdetr-resnet50.yaml"),
    "YOLOX-nano": yolox(decoded=False),
    "YOLOX-nano, decoded": yolox(decoded=True),
    "ssdlite320_mobilenet_v3_large": tv_detector("ssdlite320_mobilenet_v3_large", 320),
    "ssd300_vgg16": tv_detector("ssd300_vgg16", 300),
    "fasterrcnn_mobilenet_v3_large_320_fpn": tv_detector("fasterrcnn_mobilenet_v3_large_320_fpn", 320),
    "retinanet_resnet50_fpn": tv_detector("retinanet_resnet50_fpn", 256, min_size=256, max_size=256),
    "fcos_resnet50_fpn": tv_detector("fcos_resnet50_fpn", 256, min_size=256, max_size=256),
    "maskrcnn_resnet50_fpn": tv_detector("maskrcnn_resnet50_fpn", 256, min_size=256, max_size=256),
    "DETR": hf_detector(
        "Detr",
        "DetrImageProcessor",
        softmax=True,
        encoder_layers=1,
        decoder_layers=1,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone_config={"model_type": "resnet", "depths": [1, 1, 1, 1], "out_features": ["stage4"]},
    ),
    "Conditional DETR": hf_detector(
        "ConditionalDetr",
        "ConditionalDetrImageProcessor",
        encoder_layers=1,
        decoder_layers=1,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone_config={"model_type": "resnet", "depths": [1, 1, 1, 1], "out_features": ["stage4"]},
    ),
    "RT-DETR": hf_detector("RTDetr", "RTDetrImageProcessor", encoder_layers=1, decoder_layers=2),
    "RT-DETRv2": hf_detector("RTDetrV2", "RTDetrImageProcessor", encoder_layers=1, decoder_layers=2),
    "D-FINE": hf_detector("DFine", "RTDetrImageProcessor", encoder_layers=1, decoder_layers=2),
    "DEIMv2": hf_detector("Deimv2", "RTDetrImageProcessor"),
    "RF-DETR": hf_detector("RfDetr", "DeformableDetrImageProcessor", picture=384),
    "LW-DETR": hf_detector("LwDetr", "DeformableDetrImageProcessor", picture=320),
    "YOLOS": hf_detector(
        "Yolos",
        "YolosImageProcessor",
        softmax=True,
        image_size=[320, 320],
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
    ),
    "EfficientDet-D0 of effdet": effdet_d0(),
    "r3d_18": tv_video("r3d_18", 1, 3, 8, 112, 112),
    "mc3_18": tv_video("mc3_18", 1, 3, 8, 112, 112),
    "r2plus1d_18": tv_video("r2plus1d_18", 1, 3, 8, 112, 112),
    "s3d": tv_video("s3d", 1, 3, 16, 224, 224),
    "swin3d_t": tv_video("swin3d_t", 1, 3, 8, 112, 112),
    "X3D-XS": classifier(x3d, "PyTorchVideo", 1, 3, 4, 160, 160),
    "SlowFast": classifier(slowfast, "PyTorchVideo", 1, 3, 32, 224, 224, slow=True),
    "Slow R50": classifier(slow, "PyTorchVideo", 1, 3, 8, 224, 224),
    "VideoMAE": hf_video(
        "VideoMAE",
        1,
        16,
        3,
        224,
        224,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
    ),
    "TimeSformer": hf_video(
        "Timesformer",
        1,
        8,
        3,
        224,
        224,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
    ),
    "ViViT": hf_video(
        "Vivit",
        1,
        32,
        3,
        224,
        224,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=192,
    ),
    "TSM, frame by frame": tsm(),
    "resnet18": timm_model("resnet18"),
    "mobilenetv3_small_100": timm_model("mobilenetv3_small_100"),
    "efficientnet_b0": timm_model("efficientnet_b0"),
    "vit_tiny_patch16_224": timm_model("vit_tiny_patch16_224"),
    "convnext_atto": timm_model("convnext_atto"),
    "CLIP": with_text("CLIP"),
    "SigLIP": with_text("Siglip"),
}


def frames_of(video: Path, count: int) -> list[np.ndarray]:
    """Frames from all over a video."""
    capture = cv2.VideoCapture(str(video))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {round(number * (total - 1) / max(1, count)) for number in range(count)}
    frames = [frame for number in range(total) for frame in _read(capture, number in wanted)]
    capture.release()
    return frames


def _read(capture: cv2.VideoCapture, wanted: bool) -> list[np.ndarray]:
    if not wanted:
        capture.grab()
        return []
    good, frame = capture.read()
    return [frame] if good else []


def calibration(frames: Sequence[np.ndarray], size: Sequence[int]) -> torch.Tensor:
    """Frames as a tensor of this size, 0 to 1."""
    height, width = size[-2:]
    pictures = [cv2.resize(frame, (width, height))[..., ::-1] / 255 for frame in frames]
    stacked = np.stack([pictures[number % len(pictures)] for number in range(int(np.prod(size[:-2])) // 3)])
    tensor = torch.from_numpy(stacked.astype(np.float32)).permute(0, 3, 1, 2)
    if len(size) == 5 and size[1] == 3:
        return tensor.permute(1, 0, 2, 3)[None].contiguous()
    return tensor.reshape(*size).contiguous()


def measure(name: str, case: Case, frames: Sequence[np.ndarray], folder: Path) -> Result:
    torch.manual_seed(0)
    said = [f"--head {case.head}"] if case.head else []
    said += [f"--set '{key}={json.dumps(value)}'" for key, value in case.answers.items()]
    result = Result(name, case.framework, " ".join(said), "")
    path = folder / f"{name.replace(' ', '-').replace(',', '')}.onnx"
    reference = case.export(path, calibration(frames, case.size))
    path = _clean(path)
    try:
        found = recognise(path, labels=case.labels, head=case.head, answers=case.answers)
        manifest = write_folder(found, path, folder / f"{path.stem}-model")
        open_predictor(manifest)
    except ModelUnusable as error:
        result.outcome = f"refused: {error}"
        if case.refused and case.refused in str(error):
            result.outcome = "refused, as it is to be"
        return result
    result.outcome = f"{found.head}"
    compare(manifest, reference, frames, result)
    return result


def _clean(path: Path) -> Path:
    """The path without letters that a model's id may not have."""
    target = path.with_name(
        "".join(one if one.isalnum() or one in "-." else "-" for one in path.name.lower())
    )
    return path.rename(target) if target != path else path


@torch.no_grad()
def compare(
    manifest: ModelManifest, reference: Reference, frames: Sequence[np.ndarray], result: Result
) -> None:
    """Run both on the frames."""
    model = OnnxModel(manifest.graph)
    fed = ModelInput(manifest.input, model)
    is_detector = manifest.output.head in DETECTION_HEADS
    head = (DETECTION_HEADS[manifest.output.head] if is_detector else ClipHead)(manifest, model)
    length = manifest.input.frames
    for first in range(len(frames) if length == 1 else max(1, len(frames) - length)):
        clip = [fed.fit(frames[(first + number) % len(frames)]) for number in range(length)]
        feed = {key: value.copy() for key, value in fed.feed(clip).items()}
        outputs = model.run(head.names, feed)
        theirs = reference({key: torch.from_numpy(value) for key, value in feed.items()})
        if isinstance(theirs, torch.Tensor):
            difference = float(np.abs(head.decode(outputs) - theirs.numpy()).max())
            result.score = max(result.score, difference)
            result.compared += 1
        else:
            _compare_boxes(manifest, head.decode(outputs), theirs, result)
        if not is_detector and first >= 2:
            return


def _compare_boxes(manifest: ModelManifest, decoded: Any, theirs: Found, result: Result) -> None:
    width, height = manifest.input.width, manifest.input.height
    ours = suppress(decoded, manifest.output, Geometry(0, 0, width, height))
    boxes = ours.boxes * [width, height, width, height]
    best = torch.argsort(theirs[1], descending=True)[:TOP]
    for box, score, label in zip(*(part[best].numpy() for part in theirs), strict=True):
        if score < manifest.output.min_score:
            continue
        result.compared += 1
        alike = np.flatnonzero((ours.classes == label) & (np.abs(ours.scores - score) <= WORST_SCORE))
        away = np.abs(boxes[alike] - box).max(axis=1) if len(alike) else np.array([np.inf])
        nearest = int(away.argmin())
        if away[nearest] > WORST_PIXELS:
            result.missing += 1
        else:
            result.pixels = max(result.pixels, float(away[nearest]))
            result.score = max(result.score, float(abs(ours.scores[alike[nearest]] - score)))


def result_of(name: str, frames: Sequence[np.ndarray]) -> Result:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            return measure(name, CASES[name], frames, Path(folder))
        except Exception as error:  # a framework's own export failed: the table says so
            traceback.print_exc()
            text = f"not exported: {type(error).__name__}: {error}"[:300]
            return Result(name, CASES[name].framework, "", text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument(
        "--out", type=Path, default=Path("results.jsonl"), help="a line is added for each model"
    )
    arguments = parser.parse_args()
    frames, out = frames_of(arguments.video, arguments.frames), arguments.out.resolve()
    for name in arguments.only:
        line = json.dumps(asdict(result_of(name, frames)))
        print(line, flush=True)
        with out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
