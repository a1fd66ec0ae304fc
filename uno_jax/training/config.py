"""What a training run is: frozen dataclasses, Python recipe files under configs/, and overrides from the
command line.
"""

import argparse
import pprint
import runpy
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from uno_jax.networks.config import Config, LoraConfig, UnoPE
from uno_jax.support.command_line import parse_args
from uno_jax.weights.names import model_dir


@dataclass(frozen=True)
class SourceConfig:
    """One list of a mixture (see `uno_jax.data.entries` for its forms)."""

    path: str
    """Local or a URL that fsspec knows, such as gs://bucket/list.json."""
    weight: float = 1.0
    """Share of the samples, relative to the other sources."""
    min_score: float | None = None
    """From 0 to 4; entries of a lower score are left out. None: all are taken, but of UNO-1M's labels those
    of 4, the paper's.
    """
    root: str = ""
    """Folder of the pictures, where it is not the list's own."""
    size: tuple[int, int] | None = None
    """(height, width) of every target in pixels, for shapes that no bucket has, such as two pictures side by
    side. None: the bucket of each one's own shape.
    """


@dataclass(frozen=True)
class DataConfig:
    """Lists of pairs and how their pictures are sized and read (see `uno_jax.data`)."""

    path: str = ""
    """The list; or several as `sources`."""
    sources: tuple[SourceConfig, ...] = ()
    encodings: str = ""
    """A directory that `python -m uno_jax.encodings` made of the lists, to train from in their place."""
    resolution: int = 512
    """Bucket resolution of targets, and of the training schedule."""
    ref_resolution: int = 512
    """Bucket resolution of references: 512 for one, 320 for several in the paper."""
    text_dropout: float = 0.1
    """Share of prompts replaced by the empty one."""
    max_bad_share: float = 0.01
    """Records that cannot be used are left out; when they are more than this, the run stops."""
    threads: int = 2
    """Reading batches, in each worker."""
    workers: int = 0
    """Processes reading batches; 0: threads of the trainer's own process."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW after clipping of the global gradient norm (UNO's `train.py`)."""

    learning_rate: float = 1e-5
    warmup_steps: int = 0
    decay_to: float = 1.0
    """Learning rate at the last step as a share of `learning_rate`, reached along a cosine."""
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    """Of the running average that is exported, warming up as (1 + step) / (10 + step). 0: none."""


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; -1 takes what is left of the devices."""

    data: int = 1
    """Copies of the weights, each with a share of the samples."""
    fsdp: int = -1
    """Shares of the weights, each with a share of the samples too."""
    tensor: int = 1
    """Shares of heads and MLPs."""
    sequence: int = 1
    """Shares of a sample's tokens, for pictures too large for one chip."""


@dataclass(frozen=True)
class ProcessesConfig:
    """One run over several processes, each started with the same recipe (`jax.distributed`)."""

    coordinator: str = ""
    """HOST:PORT of process 0; or "auto" where jax finds its cluster: TPU slices, SLURM, Open MPI, Kubernetes.
    """
    count: int = 1
    """Of processes; not needed with "auto"."""
    index: int = 0
    """Of this process; not needed with "auto"."""


@dataclass(frozen=True)
class SamplesConfig:
    """Pictures of fixed prompts, drawn while the run goes on."""

    every: int = 0
    """Steps from one drawing to the next, with a last one at the end. 0: never."""
    jobs: str = ""
    """The prompts and their references: a list as `uno_jax.sample --jobs` takes."""
    steps: int | None = None
    """Euler steps; default 25, for schnell 4."""
    guidance: float | None = None
    """Guidance embedding; default 4, none for schnell."""
    true_cfg: float | None = None
    """Classifier-free guidance; default the model's, 1 (none) for FLUX."""
    width: int | None = None
    """Pixels, for entries without their own; default the model's resolution."""
    height: int | None = None
    """As width."""
    ref_size: int | None = None
    """Longest side of references; default as `uno_jax.sample`."""
    seed: int = 3407


@dataclass(frozen=True)
class TrainConfig:
    """One training run; every field can be overridden. The defaults are the paper's stage I."""

    workdir: str = "runs/uno"
    objective: Literal["flow", "autoencoder"] = "flow"
    trainable: tuple[str, ...] = ("lora/.*",)
    """Regular expressions over whole parameter paths such as mmdit/img_in/kernel, t5/…, clip/…, vae/…,
    lora/…
    """
    preset: str = "flux_dev"
    """Numbers of the networks that `weights` does not hold; those start at random."""
    weights: str = ""
    """Directory of converted networks (mmdit/, vae/, t5/, clip/); "small": the shipped one."""
    lora: LoraConfig = LoraConfig()
    """Made when `trainable` names lora/…"""
    init_lora: str = ""
    """A LoRA to start from with a fresh optimizer: stage II starts from stage I."""
    init_run: str = ""
    """Working directory of a run to start from, its optimizer carried on, its schedule begun anew."""
    unope: UnoPE = UnoPE()
    guidance: float = 1.0
    completion: float = 0.0
    """Share of the diptychs (pictures at least twice as wide as high) of which one half is given without
    noise, so that the other is learned from it; only the other half counts in the loss.
    """
    kl_weight: float = 1e-6
    """Of the autoencoder objective."""
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    batch_size: int = 16
    """Samples a step, over all devices."""
    accumulate: int = 1
    """Parts that a step's batch is worked off in, for less memory."""
    steps: int = 5000
    seed: int = 0
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of frozen weights and of the computation; what is trained is kept in float32."""
    precision: Literal["", "bfloat16"] = ""
    """Of matrix products in float32. "bfloat16" rounds their inputs, which is faster, also on CPUs with
    matrix units; empty: as jax does by default.
    """
    unroll: int = 1
    """Blocks compiled in one piece. More of them make steps faster on CPUs, and compiling slower."""
    base: Literal["", "int8", "fp8"] = ""
    """8 bits for the frozen kernels of the MM-DiT's and T5's blocks, in LoRA training; empty: `dtype`."""
    remat: Literal["none", "selective", "full"] = "full"
    """What the backward pass computes again: nothing, all but the matrix products, or whole blocks."""
    max_skipped: int = 10
    """Steps with a non-finite loss or gradient, which change nothing, before the run stops."""
    log_every: int = 10
    wandb_project: str = ""
    """Log to this W&B project too, which takes the package wandb."""
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    profile_steps: int = 0
    """Steps to profile, from the third on, when what they take is compiled."""
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    """The newest ones."""
    keep_every: int | None = None
    """And for good each whose step is a multiple of this."""

    @property
    def weights_dir(self) -> Path:
        """Where `weights` lie."""
        return model_dir(self.weights)

    def trains(self, kind: str) -> bool:
        """Whether any pattern names parameters of `kind`: mmdit, vae, t5, clip or lora."""
        return any(pattern.split("/")[0] == kind for pattern in self.trainable)


class RecipeError(ValueError):
    """A run's settings cannot work; found before any weight is loaded."""


def find_recipe(name: str, ablation: bool = False) -> Path:
    """A recipe's file, or an ablation's, whose name ends in "_ablation": the path itself, else the one of
    that file name that is shipped. Raises RecipeError.
    """
    shipped = [Path(__file__).parents[2] / folder for folder in ("configs", "uno_jax_configs")]
    candidates = [Path(name), *(folder / Path(name).with_suffix(".py").name for folder in shipped)]
    for path in candidates:
        if path.is_file():
            return path
    files = [f for folder in shipped for f in folder.glob("*.py") if f.stem != "__init__"]
    known = sorted(f.name for f in files if f.stem.endswith("_ablation") == ablation)
    raise RecipeError(
        f"no {'ablation' if ablation else 'recipe'} {name}: expected a file, or one of {', '.join(known)}"
    )


def load_recipe(name: str) -> TrainConfig:
    """The TrainConfig that a recipe's get_config() returns. Raises RecipeError."""
    return returned_by(find_recipe(name), TrainConfig)


def returned_by(path: Path, kind: type[Config]) -> Config:
    """What a file's get_config() returns. Raises RecipeError when that is none of its kind."""
    get_config = runpy.run_path(str(path)).get("get_config")
    config = get_config() if callable(get_config) else None
    if not isinstance(config, kind):
        raise RecipeError(f"{path} must define get_config() that returns a {kind.__module__}.{kind.__name__}")
    return config


def with_weights(data: DataConfig, weights: Sequence[float]) -> DataConfig:
    """The same sources, weighted anew in their order."""
    weighted = zip(data.sources, weights, strict=True)
    return replace(data, sources=tuple(replace(source, weight=weight) for source, weight in weighted))


def parse(argv: Sequence[str] | None = None) -> TrainConfig:
    """--config FILE, then every field as an override such as --optim.learning-rate 1e-4. A --data.path is
    trained from in place of the recipe's sources.

    Exits 2 for unknown ones; raises RecipeError when there is no recipe.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config")
    known, overrides = first.parse_known_args(argv)
    if known.config is None and not {"-h", "--help"} & set(overrides):
        raise RecipeError("no recipe: pass --config FILE, for example --config configs/small_stage1.py")
    default = load_recipe(known.config) if known.config else TrainConfig()
    usage = "python -m uno_jax.train --config FILE [--plan TOPOLOGY] [--print-config] [--export]"
    config = parse_args(TrainConfig, usage, overrides, default)
    if config.data.path != default.data.path and config.data.sources == default.data.sources:
        config = replace(config, data=replace(config.data, sources=()))
    return config


def recipe_text(config: TrainConfig) -> str:
    """A recipe file that says every field of `config`."""
    imports = "from uno_jax.networks.config import *\nfrom uno_jax.training.config import *\n"
    start = "    return "
    body = textwrap.indent(pprint.pformat(config, width=100), " " * len(start)).strip()
    return f"{imports}\n\ndef get_config():\n{start}{body}"
