"""What a training run is: frozen dataclasses, which recipes return and command lines override."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from uno_jax.data.config import DataConfig, SourceConfig, with_weights
from uno_jax.families.uno.config import LoraConfig, UnoPE
from uno_jax.support.errors import RecipeError
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
