"""How far the device's results are from those that the reference recorded (tests/golden), by precision."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.bench import Bench
from tools.convert_weights.golden.recording import compare
from tools.convert_weights.golden.uno import INPUTS, Golden, channels_last, load_golden
from tools.convert_weights.verify import verify
from uno_jax.families.latents import pack, token_grid
from uno_jax.families.uno.types import Conditioning
from uno_jax.families.uno.velocity import velocity
from uno_jax.networks.mmdit import MMDiT
from uno_jax.support.trees import Params

FOLDER = Path(__file__).parents[3] / "tests/golden/uno_a"
FORWARDS = ("out.ref0.d", "out.ref1.d", "out.ref2.d")
FEW = (*FORWARDS, "traj.latent_tokens", "ae.decoded")


def run(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as place:
        few = reduced(Path(place) / "few")
        precision(bench, few, "float32, highest precision, some arrays", "highest")
        precision(bench, few, "float32, default precision, the same arrays", None)
    bfloat16(bench)
    precision(bench, FOLDER, "float32, highest precision, all arrays", "highest")


def bfloat16(bench: Bench) -> None:
    """Forwards that compute in bfloat16, on a GPU with cuDNN's attention."""
    golden = load_golden(FOLDER)
    for refs, key in enumerate(FORWARDS):
        result = compare(key, golden.arrays[key], forward(golden, refs))
        bench.record(f"bfloat16, {key}", arrays=1, worst=result.relative, at=key)


def forward(golden: Golden, refs: int) -> np.ndarray:
    """The recorded forward with that many references, in bfloat16."""
    config, params = golden.transformer
    latent = channels_last(golden.arrays["img_latent"])
    guidance = golden.array("guidance") if config.guidance_embed else None
    shown = golden.latents("ref_latent", refs) if refs else ()
    given = Conditioning(golden.array("txt"), golden.array("vec"), shown, guidance)
    net, size = MMDiT(config, jnp.bfloat16), token_grid(latent)

    @jax.jit
    def run(params: Params, lora: Params) -> jax.Array:
        variables = {"params": params, "lora": lora}
        return velocity(net, variables, pack(latent), size, golden.array("timesteps"), given)

    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    return np.asarray(run(half, golden.lora[1]), np.float32)


def reduced(folder: Path) -> Path:
    """A copy of the golden folder with few of the outputs."""
    shutil.copytree(FOLDER, folder)
    arrays = load_golden(FOLDER).arrays
    kept: dict[str, Any] = {
        key: array for key, array in arrays.items() if key in FEW or INPUTS.fullmatch(key)
    }
    np.savez(folder / "golden.npz", **kept)
    return folder


def precision(bench: Bench, folder: Path, what: str, asked: str | None) -> None:
    """The worst array of `verify`, with this precision of matrix products."""
    worst, number, key = 0.0, 0, ""
    with jax.default_matmul_precision(asked):
        for result in verify(folder):
            number += 1
            if result.relative >= worst:
                worst, key = result.relative, result.key
            bench.record(what, arrays=number, worst=worst, at=key)
