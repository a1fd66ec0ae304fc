"""The command line of sampling: options of every command that draws, and those of `uno-sample`."""

import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh
from PIL import Image
from tyro.conf import FlagCreatePairsOff, UseAppendAction

from uno_jax.families.registry import FAMILIES, family_of
from uno_jax.families.scone.guidance import Renorm
from uno_jax.families.uno.config import UnoPE
from uno_jax.sampling.request import MAX_SEED, agreed_unope, make_settings
from uno_jax.sampling.results import NUMBERED, is_picture
from uno_jax.support.atomic import check_output, check_output_folder
from uno_jax.support.bounds import BatchSize, Bounds, Count, RefSide, Seed, Share, Side, Steps, Strength
from uno_jax.support.words import printable
from uno_jax.weights.base import Base, check_base
from uno_jax.weights.load import default_dtype, read_model_config
from uno_jax.weights.loras import Added, find_loras, read_loras
from uno_jax.weights.names import SMALL, find_model
from uno_jax.weights.sample_mesh import SampleMesh, local_mesh


@dataclass(frozen=True, kw_only=True)
class ModelArgs:
    """Options of every command that draws pictures."""

    model: str = SMALL
    """Directory of converted networks (mmdit/, vae/, t5/, clip/), a repository of the Hugging Face hub that
    holds one (OWNER/NAME), or small for the shipped model.
    """
    lora: Annotated[tuple[str, ...], UseAppendAction] = ()
    """LoRA to draw with, given again for another beside it: a native directory, a .safetensors file of any
    trainer, a repository's on the hub (OWNER/NAME or OWNER/NAME:FILE), auto for the model's own lora/ if it
    has one (the default), small-cached for the small model's with a reference cache, or none. Each may end in
    its strength, :0.8; the default is 1.
    """
    unope: Literal["d", "h", "w", "o"] | None = None
    """Axes along which references' positions are offset: d for both, h, w, or o for none. It must not
    contradict the LoRA's, which is the default.
    """
    offset_scale: Strength | None = None
    """Factor on these offsets; default the LoRA's."""
    reference_cache: Annotated[bool, FlagCreatePairsOff] = False
    """Compute the references' keys and values once a picture: they see references only. A LoRA that was
    trained so brings it along; another model draws worse with it.
    """
    steps: Steps | None = None
    """Euler steps; default 25, for schnell 4."""
    guidance: Strength | None = None
    """Strength of the guidance embedding; default the model's: 4 for FLUX.1-dev, none for schnell."""
    true_cfg: Strength | None = None
    """Scale of classifier-free guidance away from the negative prompt, by default the empty one, without
    references, for twice the work; default the model's: for FLUX 1, which leaves it out.
    """
    image_cfg: Strength | None = None
    """Scale of the guidance by references, away from the picture without them: more of their subjects, and
    above some scale stray colours. Default that of --true-cfg if it is given, else the model's: for FLUX 1,
    which leaves it out, for Scone 2.
    """
    cfg_interval: tuple[Share, Share] | None = None
    """Classifier-free guidance (--true-cfg, --image-cfg, Scone's --text-cfg) acts at times above the first
    and up to the second, from 1, noise, to 0, the picture; default 0 1, always. Outside it costs nothing.
    """
    skip_threshold: Strength | None = None
    """Leave steps out while their estimated error stays below this (MagCache): 0.06 with care, 0.24 for
    speed; default 0, none. At most three in a row are, and none of the first fifth and the first five.
    `uno-calibrate` shows what is lost.
    """
    text_cfg: Strength | None = None
    """Scone: scale of the guidance away from the picture without the prompt; default 4, 1 leaves it out."""
    renorm: Renorm | None = None
    """Scone: what guidance must not make larger: each token before the step by references (text_channel, the
    default) or after it (channel), or a whole picture (global).
    """
    renorm_min: Share | None = None
    """Scone: the least factor by which that shrinks the guidance; default 0."""
    shift: Annotated[float, Bounds(0, 1000, above=True)] | None = None
    """Scone: shift of the times towards noise; default 3."""
    points: Annotated[int, Bounds(2, 1001)] | None = None
    """Scone: times of the schedule, from noise to picture; default 50, which makes 49 Euler steps."""
    vit_size: RefSide | None = None
    """Scone: longest side in pixels in which the ViT is shown references, a multiple of 14; default 980,
    518 as in training costs a third.
    """
    think: Annotated[bool, FlagCreatePairsOff] = False
    """Scone: write a thought before each picture, which is drawn to follow it. The thought is printed and
    recorded in the picture's JSON.
    """
    temperature: Strength | None = None
    """Scone: temperature of what is written, with --think and --understand; default 0, the likeliest."""
    max_tokens: Annotated[int, Bounds(1, 16_384)] | None = None
    """Scone: most tokens of what is written; default 1000."""
    batch_size: BatchSize = 4
    """Largest number of pictures of equal shapes to make at once."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Number format of the model; default bfloat16 on accelerators, float32 on the CPU."""
    base: Base = ""
    """Hold the kernels of the MM-DiT's and T5's blocks in 8 bits: int8 or fp8 for half the memory of
    bfloat16; fp8-products, which also multiplies in float8 (W8A8), for speed on NVIDIA GPUs from Ada and
    Hopper on; or fp8-attention, whose MM-DiT's attention is in float8 too, on Hopper and B200-class GPUs. The
    CPU computes the same numbers slowly. Needs qwix (extra: quant).
    """
    offload: Annotated[bool, FlagCreatePairsOff] = False
    """Keep the weights in the computer's own memory and bring to the device what a stage needs: the text
    encoders, then the autoencoder, the MM-DiT, and the autoencoder again. The device holds the largest of
    them at most, and each batch of pictures waits for the copies.
    """
    mesh: SampleMesh = SampleMesh()


@dataclass(frozen=True, kw_only=True)
class SampleArgs(ModelArgs):
    """Draw pictures of the references' subjects, from one --prompt or from a list of --jobs."""

    prompt: str | None = None
    """Description of the picture."""
    ref: Annotated[tuple[tuple[Path, ...], ...], UseAppendAction] = ()
    """Reference pictures, none to many: --ref a.jpg b.jpg."""
    left: Path | None = None
    """Left half of a diptych whose right half is drawn (diptych prompting). --width is then the width of both
    halves, by default twice the model's resolution.
    """
    negative: str | None = None
    """What the picture should not be: classifier-free guidance (--true-cfg) leads away from it, in place of
    the empty prompt.
    """
    start_image: Path | None = None
    """Picture to begin with, resized and cropped to the size of what is drawn. --strength says how much of it
    is left.
    """
    strength: Annotated[float, Bounds(0, 1, above=True)] | None = None
    """How far a start image is drawn over: the share of the steps that are taken, of which 1 leaves nothing;
    default 0.6.
    """
    mask: Path | None = None
    """Of a start image: a picture of its size, white where it is drawn anew and black where it stays."""
    like: Path | None = None
    """Picture that this program drew, to be drawn again with the settings in its file, bit for bit on the
    same hardware; other options given beside it take the place of its own.
    """
    jobs: Path | None = None
    """JSON list of {"prompt", "image_paths": […]} in place of --prompt and --ref, perhaps with "negative",
    "start_path" and "mask_path"; for Scone also of {"turns": [{"image_path"} or {"text"}, …]}.
    """
    understand: Annotated[bool, FlagCreatePairsOff] = False
    """Scone: answer the prompt about the references in text, in place of drawing. Several answers are printed
    as lines of JSON.
    """
    out: Path | None = None
    """Directory for {entry}_{image}.png, or a .png file for a single picture. By default the pictures of a
    --prompt are out/00000.png and on, always with new numbers, and those of --jobs lie in out/.
    """
    overwrite: Annotated[bool, FlagCreatePairsOff] = False
    """Replace pictures that exist and were made with other settings."""
    width: Side | None = None
    """Width in pixels, a multiple of 16; default the model's resolution (512 for FLUX)."""
    height: Side | None = None
    """Height in pixels, a multiple of 16; default the model's resolution (512 for FLUX)."""
    seed: Seed | Literal["random"] = 3407
    """Seed of the first picture of a prompt; the next has the next seed. random draws one, which the
    pictures' settings record.
    """
    num_images: Count = 1
    """Pictures of each prompt."""
    ref_size: RefSide | None = None
    """Longest side of references in pixels; default the model's, for FLUX 512 for one and
    320 for several.
    """
    sheet: Annotated[bool, FlagCreatePairsOff] = False
    """Write all pictures of the run, beside their references, as one contact sheet too: OUT/sheet.png, or
    PICTURE_sheet.png.
    """
    plan: str = ""
    """Hardware to plan for in place of drawing: a TPU topology such as v5p:2x2x1, a GPU such as h100 or
    several as h100:8, or local. Prints memory, work and time of every stage, compiled without loading
    weights; --model may then name a preset.
    """
    detail: Annotated[bool, FlagCreatePairsOff] = False
    """With --plan, also print where the time goes: the kernels by kind and by place in the model."""
    refs: Annotated[int, Bounds(0, 8)] = 1
    """Number of references of each picture, for --plan."""

    @property
    def named(self) -> Path | None:
        """Where pictures are named by entry and image; None where they are numbered."""
        return self.out or (None if self.jobs is None else NUMBERED)


def given_options(args: ModelArgs) -> dict[str, Any]:
    """The options of every family's settings but the position convention, which a LoRA may bring."""
    names = dict.fromkeys(name for family in FAMILIES for name in family.sampler.options)
    return {name: getattr(args, name, None) for name in names if name != "unope"}


class Drawing(NamedTuple):
    """The model that a command line names, its LoRAs, how it will sample, and over which devices; weights are
    not loaded yet.
    """

    config: Any
    settings: Any
    lora: Added | None
    mesh: Mesh


def choose_model(args: ModelArgs) -> Drawing:
    """The model, settings and LoRAs that a command line names. What of a LoRA is left out is printed.

    Raises ValueError or OSError saying what to change, before any weight is loaded.
    """
    check_base(args.base, jax.local_devices()[0])
    config = read_model_config(args.model)
    if args.offload:
        family_of(config).need_stages()
    options = given_options(args)
    make_settings(config, None, options)  # cheaper than reading a LoRA
    lora = read_loras(find_loras(args.lora, find_model(args.model)), config)
    for note in lora.notes if lora else ():
        print(printable(note), file=sys.stderr)
    unope = choose_unope(args, lora.unope if lora else None)
    mesh = local_mesh(args.mesh, config, args.dtype or default_dtype())
    return Drawing(config, make_settings(config, unope, options), lora, mesh)


def choose_unope(args: ModelArgs, trained: UnoPE | None) -> UnoPE | None:
    """The convention of a command line: the LoRA's, which it may repeat in part or whole but not contradict;
    None where neither names one.
    """
    options = {
        "variant": args.unope,
        "offset_scale": args.offset_scale,
        "reference_cache": args.reference_cache or None,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    return agreed_unope(replace(trained or UnoPE(), **given), trained) if given else trained


def first_seed(args: SampleArgs) -> int:
    """The seed of a prompt's first picture, drawn where a random one is asked for."""
    return secrets.randbelow(MAX_SEED + 2 - args.num_images) if args.seed == "random" else args.seed


def check_args(args: SampleArgs) -> None:
    """Raises ValueError or OSError for arguments that contradict each other and for an unusable --out."""
    if args.like is not None and args.jobs is not None:
        raise ValueError("--like draws one picture again: leave out --jobs")
    if (args.prompt is None) == (args.jobs is None):
        raise ValueError("give either --prompt or --jobs" + (", not both" if args.prompt is not None else ""))
    written = args.think or args.understand
    if not written and (args.temperature, args.max_tokens) != (None, None):
        raise ValueError("--temperature and --max-tokens go with --think or --understand")
    if args.sheet and args.understand:
        raise ValueError("--understand draws nothing: leave out --sheet")
    if args.understand and (args.out is not None or args.left is not None):
        raise ValueError("--understand answers in text: leave out --out and --left")
    if args.jobs is not None and (args.ref or args.left or args.start_image or args.mask):
        raise ValueError(
            "--ref, --left, --start-image and --mask go with --prompt; a job list names its own pictures"
        )
    if args.jobs is not None and args.negative is not None:
        raise ValueError('--negative goes with --prompt; an entry of a job list has its own "negative"')
    if args.jobs is None and args.strength is not None and args.start_image is None:
        raise ValueError("--strength says how far a start image is drawn over: give --start-image too")
    if () in args.ref:
        raise ValueError("--ref names no picture: give at least one, or leave it out")
    out = args.named or NUMBERED
    single = is_picture(out)
    if out.suffix.lower() in Image.registered_extensions() and not single:
        raise ValueError(f"--out {out}: pictures are written as .png; give such a file or a directory")
    if single and (args.jobs is not None or args.num_images != 1):
        raise ValueError(f"--out {out} is one file, but several pictures may be made: give a directory")
    if single:
        check_output("--out", out)
    else:
        check_output_folder("--out", out)
