"""What a training run is: frozen dataclasses, which recipes return and command lines override."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from uno_jax.data.config import DataConfig, SourceConfig, with_weights
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.support.bounds import (
    BELOW_1,
    BatchSize,
    Bounds,
    Count,
    Devices,
    RefSide,
    Seed,
    Share,
    Side,
    Steps,
    Strength,
)
from uno_jax.support.errors import RecipeError
from uno_jax.support.settings import ADDED
from uno_jax.weights.base import Trained
from uno_jax.weights.names import model_dir

__all__ = [
    "DataConfig",
    "LoraConfig",
    "MeshConfig",
    "OptimConfig",
    "ProcessesConfig",
    "RecipeError",
    "SamplesConfig",
    "SourceConfig",
    "TrainConfig",
    "UnoPE",
    "with_weights",
]

# The schedule of learning rates is an array with a number for each step.
MOST_STEPS = 10_000_000
StepCount = Annotated[int, Bounds(1, MOST_STEPS)]


@dataclass(frozen=True)
class OptimConfig:
    """AdamW after clipping of the global gradient norm (UNO's `train.py`)."""

    learning_rate: Annotated[float, Bounds(0, 1_000, above=True)] = 1e-5
    """Peak learning rate."""
    warmup_steps: Annotated[int, Bounds(0, MOST_STEPS)] = 0
    """Steps of linear warm-up."""
    decay_to: Share = 1.0
    """Learning rate at the last step as a share of `learning_rate`, reached along a cosine."""
    b1: Annotated[float, Bounds(0, BELOW_1)] = 0.9
    """Decay of AdamW's first moment."""
    b2: Annotated[float, Bounds(0, BELOW_1)] = 0.999
    """Decay of AdamW's second moment."""
    eps: Annotated[float, Bounds(0, 1, above=True)] = 1e-8
    """Epsilon of AdamW."""
    weight_decay: Strength = 0.01
    """Weight decay of AdamW."""
    clip_norm: Annotated[float, Bounds(0, 1e12, above=True)] = 1.0
    """Global norm that gradients are clipped to."""
    ema_decay: Annotated[float, Bounds(0, BELOW_1)] = 0.0
    """Decay of the running average that is exported, warming up as (1 + step) / (10 + step); 0 for none."""


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; -1 takes the remaining devices."""

    data: Devices = 1
    """Copies of the weights, each with a share of the samples."""
    fsdp: Devices = -1
    """Shares of the weights, each also with a share of the samples."""
    tensor: Devices = 1
    """Shares of heads and MLPs."""
    sequence: Devices = 1
    """Shares of a sample's tokens, for pictures too large for one chip."""


@dataclass(frozen=True)
class ProcessesConfig:
    """One run over several processes, each started with the same recipe (`jax.distributed`)."""

    coordinator: str = ""
    """Address HOST:PORT of process 0, or "auto" where jax detects the cluster: TPU slices, SLURM, Open MPI,
    Kubernetes.
    """
    count: Count = 1
    """Number of processes; not needed with "auto"."""
    index: Annotated[int, Bounds(0, 999_999)] = 0
    """Index of this process, from 0; not needed with "auto"."""


@dataclass(frozen=True)
class SamplesConfig:
    """Pictures of fixed prompts, drawn during the run."""

    every: Annotated[int, Bounds(0, MOST_STEPS)] = 0
    """Steps from one drawing to the next; the last step is always drawn. 0 draws nothing."""
    jobs: str = ""
    """List of the prompts and their references, as `uno-sample --jobs` takes it."""
    steps: Steps | None = None
    """Euler steps; default 25, for schnell 4."""
    guidance: Strength | None = None
    """Strength of the guidance embedding; default 4, none for schnell."""
    true_cfg: Strength | None = None
    """Scale of classifier-free guidance; default the model's, 1 (none) for FLUX."""
    image_cfg: Strength | None = field(default=None, metadata=ADDED)
    """Scale of the guidance by references; default as in `uno-sample`."""
    width: Side | None = None
    """Width in pixels of entries without their own; default the model's resolution."""
    height: Side | None = None
    """Height in pixels of entries without their own; default the model's resolution."""
    ref_size: RefSide | None = None
    """Longest side of references in pixels; default as in `uno-sample`."""
    seed: Seed = 3407
    """Seed of entries without their own."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run; every field can be overridden. The defaults are the paper's stage I."""

    workdir: str = "runs/uno"
    """Directory for checkpoints, logs and results."""
    objective: Literal["flow", "autoencoder"] = "flow"
    """Loss to minimise: UNO's flow matching, or an autoencoder's reconstruction."""
    trainable: tuple[str, ...] = ("lora/.*",)
    """Regular expressions over whole parameter paths such as mmdit/img_in/kernel, t5/…, clip/…, vae/…,
    lora/…
    """
    preset: str = "flux_dev"
    """Preset of the networks that `weights` does not hold; those start at random."""
    weights: str = ""
    """Directory of converted networks (mmdit/, vae/, t5/, clip/), or "small" for the shipped model."""
    lora: LoraConfig = LoraConfig()
    """LoRA that is made when `trainable` names lora/…"""
    init_lora: str = ""
    """LoRA to start from with a fresh optimizer, as stage II starts from stage I: a directory, small for the
    shipped model's, or small-cached for its LoRA with a reference cache.
    """
    init_run: str = ""
    """Working directory of a run to start from, with its optimizer but the schedule from the start."""
    unope: UnoPE = UnoPE()
    """Position convention of the references."""
    guidance: Strength = 1.0
    """Strength that the guidance embedding is given."""
    completion: Share = 0.0
    """Share of the diptychs (pictures at least twice as wide as high) of which one half is given without
    noise, for the other to be learned from it; only that other half counts in the loss.
    """
    kl_weight: Strength = 1e-6
    """Weight of the KL divergence in the autoencoder objective."""
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    batch_size: BatchSize = 16
    """Samples in a step, over all devices."""
    accumulate: BatchSize = 1
    """Equal parts of a batch that are computed one after another, for less memory."""
    steps: StepCount = 5000
    """Number of the last step."""
    seed: Seed = 0
    """Seed of the initial weights, the order of the data and the noise."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of frozen weights and of the computation; trained weights are kept in float32."""
    precision: Literal["", "bfloat16"] = ""
    """Precision of matrix products in float32. "bfloat16" rounds their inputs, which is faster, also on CPUs
    with matrix units; empty is jax's default.
    """
    unroll: Annotated[int, Bounds(1, 1_000)] = 1
    """Blocks that are compiled in one piece. More of them make steps faster on CPUs and compilation slower.
    """
    base: Trained = ""
    """Number format, in LoRA training, of the frozen kernels in the MM-DiT's and T5's blocks; empty: `dtype`.
    fp8-products also multiplies in float8, forward and backward.
    """
    remat: Literal["none", "selective", "full"] = "full"
    """Rematerialisation: the backward pass recomputes nothing, all but the matrix products, or whole blocks.
    """
    max_skipped: Annotated[int, Bounds(0, MOST_STEPS)] = 10
    """Steps with a non-finite loss or gradient, which change nothing, that a run may have before it stops."""
    log_every: StepCount = 10
    """Steps from one line of the logs to the next."""
    wandb_project: str = ""
    """W&B project to log to as well; needs the package wandb."""
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    profile_steps: Annotated[int, Bounds(0, 1_000)] = 0
    """Number of steps to profile, from the third on, when everything is compiled."""
    checkpoint_every: StepCount = 500
    """Steps from one checkpoint to the next."""
    keep_checkpoints: Count = 2
    """Number of newest checkpoints to keep."""
    keep_every: StepCount | None = None
    """Also keep every checkpoint whose step is a multiple of this, permanently."""

    @property
    def weights_dir(self) -> Path:
        """The directory that `weights` names."""
        return model_dir(self.weights)

    def trains(self, kind: str) -> bool:
        """Whether any pattern names parameters of `kind`: mmdit, vae, t5, clip or lora."""
        return any(pattern.split("/")[0] == kind for pattern in self.trainable)
