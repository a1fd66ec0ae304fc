"""The commands that read and write LoRAs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, UseAppendAction

from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.lora_names import Format
from uno_jax.support.bounds import Strength
from uno_jax.support.errors import CheckpointError
from uno_jax.support.words import printable
from uno_jax.weights.names import find_model, lora_dir

from . import hub
from .lora import export_lora, import_lora
from .model_commands import Dtype, LargeDtype, check_export
from .pack import merge_loras


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
    reference_cache: Annotated[bool, FlagCreatePairsOff] = False
    """It was trained with references that see references only; default: as recorded, or else not."""
    dtype: Dtype = "keep"
    """Data type to write; keep: that of the source."""
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        given = self.given_unope()
        src = hub.locate(self.src)
        base = None if self.base is None else find_model(self.base)
        info = import_lora(src, self.dst, base, given, self.dtype, self.overwrite)
        print(f"wrote {self.dst}: {info.lora}, {info.unope}")
        return 0

    def given_unope(self) -> dict[str, Any]:
        """The fields of the convention that the command line names.

        Raises CheckpointError.
        """
        options = {
            "variant": self.unope,
            "offset_scale": self.offset_scale,
            "reference_cache": self.reference_cache or None,
        }
        given = {name: value for name, value in options.items() if value is not None}
        try:
            UnoPE(**given)  # type: ignore[arg-type]
        except ValueError as error:
            raise CheckpointError(f"--offset-scale: {error}") from None
        return given


def told_unope(unope: UnoPE | None) -> str:
    """What sampling with a merged LoRA must be given, where that is not the default."""
    if unope is None or unope == UnoPE():
        return ""
    cached = " --reference-cache" if unope.reference_cache else ""
    return f": sample it with --unope {unope.variant} --offset-scale {unope.offset_scale:g}{cached}"


@dataclass(frozen=True)
class ExportLora:
    """LoRA directory of uno_jax to one .safetensors file in another program's naming; or, with --merge, a
    model with one or several LoRAs of any trainer added to its kernels.
    """

    src: Annotated[tuple[str, ...], UseAppendAction]
    """LoRA directory, or directory of a model that has a LoRA (small: the shipped one; small-cached: its LoRA
    with a reference cache). With --merge what uno-sample takes as --lora, also several, each perhaps with a
    strength, :0.8.
    """
    dst: Path
    """File to write; with --merge a model directory, which flux and clip convert to files."""
    format: Format | None = None
    """Naming to write. uno: dit_lora.safetensors; diffusers: PEFT; kohya: ComfyUI."""
    merge: str | None = None
    """Model to add the LoRAs to, as the --model of uno-sample."""
    dtype: LargeDtype | None = None
    """Data type to write: bf16, as LoRAs are shared; keep: that of the source, in which a training left it
    (float32), and which is the default with --merge; int8, with --merge only: the kernels of the large
    networks' blocks in 8 bits.
    """
    overwrite: bool = False
    """Replace an existing destination."""

    def run_command(self) -> int:
        if self.merge is not None:
            return self.run_merge(find_model(self.merge))
        if self.format is None or len(self.src) != 1:
            raise CheckpointError("give one --src and its --format, or --merge MODEL")
        check_export(self.dtype)
        if Path(self.src[0]).is_file():
            raise CheckpointError(
                f"{self.src[0]} is a file, expected a LoRA directory: uno-convert lora makes one of it"
            )
        export_lora(lora_dir(self.src[0]), self.dst, self.format, self.dtype or "bf16", self.overwrite)
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
        print(f"wrote {self.dst}{told_unope(added.unope)}")
        return 0
