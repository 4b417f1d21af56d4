"""EfficientNet-Lite 0 to 4: image classifiers for small machines, with published weights.

Source: EfficientNet, Tan & Le 2019, arXiv:1905.11946; Lite drops squeeze-and-excitation, uses
ReLU6 and keeps the stem and head of every size alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from backprop.errors import ArtefactError
from backprop.handlers import hypernyms

__all__ = ["VARIANTS", "EfficientNetLite", "Variant", "convert", "load"]


@dataclass(frozen=True)
class Variant:
    """How one size differs from lite0; widths and depths are multiples of lite0's."""

    width: float
    depth: float
    image_size: int
    dropout: float


VARIANTS: Mapping[str, Variant] = {
    "efficientnet-lite0": Variant(1.0, 1.0, 224, 0.2),
    "efficientnet-lite1": Variant(1.0, 1.1, 240, 0.2),
    "efficientnet-lite2": Variant(1.1, 1.2, 260, 0.3),
    "efficientnet-lite3": Variant(1.2, 1.4, 280, 0.3),
    "efficientnet-lite4": Variant(1.4, 1.8, 300, 0.3),
}

# One stage a row: kernel, stride of its first block, expansion, output channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS, FEATURES = 32, 1280
SMALLEST_IMAGE = 32  # pixels a side: the maps before the head are 32 times smaller
MODEL_TYPE = "efficientnet-lite"
DROP_PATH = 0.2  # share of residual branches dropped in the last block while training

# Published parameter names to ours, in this order.
PUBLISHED_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.conv."),
    (r"^_bn1\.", "head.norm."),
    (r"^_fc\.", "classifier."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project.conv."),
    (r"\._bn2\.", ".project.norm."),
)

# Of the crops and filters measured, none was better beyond chance (90 % of 300 photos right).
CROP_FRACTION = 0.875
BICUBIC = 3  # PIL.Image.Resampling.BICUBIC, transformers' ``resample``


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's "SAME" does: more after than before if uneven."""

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, channels, ceil(height / stride), ceil(width / stride))."""
        # As Python's numbers, so that an exported network has them as constants.
        (top, bottom), (left, right) = (
            self._padding(int(size), i) for i, size in enumerate(x.shape[2:])
        )
        even = top == bottom and left == right
        if not even:
            x = functional.pad(x, [left, right, top, bottom])
        padding = (top, left) if even else 0
        return functional.conv2d(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _padding(self, size: int, dimension: int) -> tuple[int, int]:
        """Return how much is added before and after one dimension."""
        kernel, stride = self.kernel_size[dimension], self.stride[dimension]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless ``linear``, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.act: nn.Module = nn.Identity() if linear else nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, outputs, height / stride, width / stride)."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class Block(nn.Module):
    """Inverted residual: expand, filter each channel, project back."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int, drop: float
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand: nn.Module = ConvNorm(inputs, wide) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = ConvNorm(wide, outputs, linear=True)
        self.residual = stride == 1 and inputs == outputs
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (batch, outputs, height / stride, width / stride)."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        if not self.residual:
            return out
        if self.training and self.drop:
            keep = torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) >= self.drop
            out = out * keep / (1 - self.drop)
        return out + x


def block_shapes(variant: Variant) -> Iterator[dict[str, int]]:
    """Yield the arguments of each block of ``variant``, in order."""
    inputs = STEM_CHANNELS
    for index, (kernel, stride, expansion, channels, repeats) in enumerate(STAGES):
        outputs = scaled_channels(channels, variant.width)
        if 0 < index < len(STAGES) - 1:  # Lite never repeats the first and last stage more often
            repeats = math.ceil(repeats * variant.depth)
        for repeat in range(repeats):
            yield {
                "inputs": inputs,
                "outputs": outputs,
                "kernel": kernel,
                "stride": 1 if repeat else stride,
                "expansion": expansion,
            }
            inputs = outputs


def scaled_channels(channels: int, width: float) -> int:
    """Return ``channels * width`` as the nearest multiple of 8 that loses at most a tenth."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


class EfficientNetLite(nn.Module):
    """An EfficientNet-Lite with a linear head.

    Args:
        variant: a key of ``VARIANTS``.
        num_classes: outputs of the head.
    """

    def __init__(self, variant: str = "efficientnet-lite0", num_classes: int = 1000) -> None:
        super().__init__()
        self.variant = variant
        self.num_classes = num_classes
        shapes = list(block_shapes(VARIANTS[variant]))
        self.stem = ConvNorm(3, STEM_CHANNELS, kernel=3, stride=2)
        self.blocks = nn.Sequential(
            *(
                Block(**shape, drop=DROP_PATH * index / len(shapes))
                for index, shape in enumerate(shapes)
            )
        )
        self.head = ConvNorm(shapes[-1]["outputs"], FEATURES)
        self.dropout = nn.Dropout(VARIANTS[variant].dropout)
        self.classifier = nn.Linear(FEATURES, num_classes)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return the pooled features, shape (batch, 1280).

        Args:
            pixel_values: shape (batch, 3, height, width), normalised; any size of 32 px or more.
        """
        # On CPUs depthwise convolutions are two to three times faster with the channels last.
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.head(self.blocks(self.stem(pixel_values)))
        return maps.mean(dim=(2, 3))

    def replace_classifier(self, num_classes: int) -> None:
        """Put a new, untrained linear layer of so many outputs in place of the last."""
        self.classifier = nn.Linear(FEATURES, num_classes).to(self.classifier.weight)
        self.num_classes = num_classes

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return logits, shape (batch, num_classes)."""
        logits: Tensor = self.classifier(self.dropout(self.features(pixel_values)))
        return logits


def convert(raw_folder: Path, out_folder: Path) -> None:
    """Write safetensors, ``config.json`` and ``preprocessor_config.json`` from published weights.

    Args:
        raw_folder: holds one ``.pth`` with the state dict of an ImageNet-1k EfficientNet-Lite.
        out_folder: made if absent.

    Raises:
        ArtefactError: not exactly one ``.pth``, or not an EfficientNet-Lite's.
    """
    state = renamed(published_state(raw_folder))
    variant = variant_of(state)
    size = VARIANTS[variant].image_size
    out_folder.mkdir(parents=True, exist_ok=True)
    write(state, config(variant), out_folder)
    write_json(out_folder / "preprocessor_config.json", preprocessing(size))


def save(model: EfficientNetLite, settings: Mapping[str, Any], folder: Path) -> None:
    """Write safetensors and ``config.json``, so that ``load`` makes the model again."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    write(state, {**settings, "num_classes": model.num_classes}, folder)


def write(state: Mapping[str, Tensor], settings: Mapping[str, Any], folder: Path) -> None:
    """Write a state dict and its ``config.json``."""
    save_file(dict(state), folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", settings)


def load(folder: Path) -> EfficientNetLite:
    """Return the model in a folder that ``convert`` wrote, in evaluation mode."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = EfficientNetLite(settings["variant"], settings["num_classes"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def config(variant: str) -> dict[str, Any]:
    """Return ``config.json`` of an ImageNet-1k model."""
    names = hypernyms.class_names()
    return {
        "model_type": MODEL_TYPE,
        "variant": variant,
        "image_size": VARIANTS[variant].image_size,
        "hidden_size": FEATURES,
        "num_classes": len(names),
        "id2label": {str(index): name for index, name in enumerate(names)},
    }


def preprocessing(image_size: int) -> dict[str, Any]:
    """Return ``preprocessor_config.json``, in the keys of transformers' image processors."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": round(image_size / CROP_FRACTION)},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": image_size, "width": image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def published_state(folder: Path) -> dict[str, Tensor]:
    """Return the state dict of the one ``.pth`` in ``folder``, as published."""
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise ArtefactError(
            f"Expected one .pth file in {folder}, found {[file.name for file in files]}; "
            "pass the folder that holds the published weights alone."
        )
    state: dict[str, Tensor] = torch.load(files[0], map_location="cpu", weights_only=True)
    return state


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` under our parameter names."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for pattern, ours in PUBLISHED_NAMES:
            name = re.sub(pattern, ours, name)
        out[name] = tensor.contiguous()
    return out


def variant_of(state: Mapping[str, Tensor]) -> str:
    """Return the variant whose parameters have the names and shapes of ``state``."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for variant in VARIANTS:
        with torch.device("meta"):
            expected = EfficientNetLite(variant).state_dict()
        if shapes == {name: tensor.shape for name, tensor in expected.items()}:
            return variant
    raise ArtefactError(
        f"These {len(shapes)} tensors are no ImageNet EfficientNet-Lite; "
        f"expected the state dict of one of {', '.join(VARIANTS)}."
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
