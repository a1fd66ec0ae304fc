"""The commands that write a whole model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uno_jax.support.words import printable
from uno_jax.weights.arrays import holds_params
from uno_jax.weights.names import find_lora, find_model

from . import hub
from .eight_bits import INT8
from .mapping import ConversionError
from .pack import pack
from .pipeline import convert_pipeline
from .scone import convert_scone, export_scone
from .tables import mot

Dtype = Literal["keep", "bf16", "fp16", "fp32"]
LargeDtype = Literal["keep", "bf16", "fp16", "fp32", "int8"]
"""Also int8: the kernels of the large networks' blocks in 8 bits."""


def check_export(dtype: str | None) -> None:
    """Raises ConversionError for a data type that files for other programs cannot have."""
    if dtype == INT8:
        raise ConversionError("--dtype int8 is for model directories, which no other program reads")


@dataclass(frozen=True)
class Pipeline:
    """Every network of a diffusers FLUX pipeline, to DST/mmdit, vae, t5 and clip. Run again, it goes on with
    those that are missing. Tokenizers are part of this program.
    """

    src: str
    """Folder with transformer/, vae/, text_encoder/ and text_encoder_2/, or name on the hub, owner/name."""
    dst: Path
    """Model directory to write to, later the --model of sampling."""
    dtype: LargeDtype = "keep"
    """Data type to write; keep: that of the source, with fp8 widened to bf16; int8: the kernels of the
    transformer's and T5's blocks in 8 bits, half of bf16's size, the others as with keep.
    """
    overwrite: bool = False
    """Replace existing networks."""

    def run_command(self) -> int:
        for line in convert_pipeline(self.src, self.dst, self.dtype, self.overwrite):
            print(printable(line), flush=True)
        return 0


@dataclass(frozen=True)
class Scone:
    """Every network of BAGEL or Scone and the tokenizer, to DST/mot, vit, vae and tokenizer; run again, it
    goes on with those that are missing. Or the decoder and the ViT back to one file.
    """

    src: str
    """Folder with ema.safetensors or model.safetensors (or its shards), ae.safetensors, the .json files and
    the tokenizer's, as BAGEL is published, one of its files of weights, or its name on the hub; to convert
    back, a model directory of uno_jax.
    """
    dst: Path
    """Model directory to write to, later the --model of sampling; to convert back, a file."""
    dtype: LargeDtype = "keep"
    """Data type to write; keep: that of the source; int8: the kernels of the decoder's blocks in 8 bits, half
    of bf16's size, the others as with keep.
    """
    overwrite: bool = False
    """Replace what exists."""

    def run_command(self) -> int:
        src = hub.locate(self.src)
        if holds_params(src / mot.MODEL.kind):
            check_export(self.dtype)
            print(f"wrote {export_scone(src, self.dst, self.dtype, self.overwrite)}")
            return 0
        for line in convert_scone(src, self.dst, self.dtype, self.overwrite):
            print(printable(line), flush=True)
        return 0


@dataclass(frozen=True)
class Pack:
    """Model with its LoRA, as one .safetensors file and config.json per network: to ship or copy."""

    model: str
    """Model directory."""
    dst: Path
    """Model directory to write."""
    lora: str = "auto"
    """LoRA directory to include as DST/lora; auto: the model's own, if it has one; none: no LoRA."""
    dtype: LargeDtype = "keep"
    """Data type to write; keep: that of the source; int8: the kernels of the large networks' blocks in 8
    bits, half of bf16's size, the others as with keep.
    """
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        model = find_model(self.model)
        size = pack(model, find_lora(self.lora, model), self.dst, self.dtype, self.overwrite)
        print(f"wrote {self.dst}: {size / 1e6:.1f} MB")
        return 0
