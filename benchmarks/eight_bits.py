"""What a base in 8 bits costs in quality, computed on a CPU: the shipped small model's pictures of held-out
subjects, and the golden model's latents.

    python -m benchmarks.eight_bits --count 8

For each base: the PSNR of pictures against float32's and the cosine of their latents, mean and worst; then,
for the random model of tests/golden with its LoRA merged, the cosine of a loop's latents with those of the
reference.
Needs the extra quant.
"""

from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image

from tools.convert_weights.golden.uno import SAMPLING_GUIDANCE, channels_first, channels_last, load_golden
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.latents import decode_latent, encode_image, initial_noise
from uno_jax.families.lora import merge
from uno_jax.families.model import Model
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.families.uno.sampling import denoise_latent, encode_prompts, latent_shape
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.quantize import quantize_base
from uno_jax.networks.registry import abstract_params
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.support.images import to_array
from uno_jax.toybox import load_subjects, pair
from uno_jax.weights.base import Base
from uno_jax.weights.load import load_model

SIDE = 128
GOLDEN = Path("tests/golden/uno_a")


class Args(NamedTuple):
    """What to draw."""

    count: int = 8
    """Pictures of the small model, each of another held-out subject."""
    steps: int = 25
    """Euler steps."""


def main(args: Args) -> None:
    exact: Any = None
    for base in get_args(Base):
        model = load_model("small", dtype="float32", base=base)
        latents, pictures = draw(model, args)
        exact = exact if base else (latents, pictures)
        if base:
            psnr = -10 * np.log10(np.square((pictures - exact[1]) / 2).mean((1, 2, 3)))
            alike = cosines(latents, exact[0])
            print(
                f"small, {base:14} PSNR {psnr.mean():.1f} dB (worst {psnr.min():.1f}), cosine of latents "
                f"{alike.mean():.4f} (worst {alike.min():.4f})",
                flush=True,
            )
    for base in get_args(Base)[1:]:
        print(f"golden, {base:13} cosine of latents with the reference's {golden_cosine(base):.4f}")


def draw(model: Model, args: Args) -> tuple[np.ndarray, np.ndarray]:
    """Latents and pictures in [-1, 1] of held-out subjects, each beside its reference."""
    subjects = load_subjects(split="val")
    cases = [pair(np.random.default_rng([3, i]), subjects, SIDE) for i in range(args.count)]
    shown = np.stack([to_array(Image.fromarray(case.references[0])) for case in cases])
    prompts = encode_prompts(model, [case.prompt for case in cases])
    guidance = jnp.full(args.count, model.config.defaults.guidance, jnp.float32)
    given = Conditioning(*prompts, (encode_image(model, shown),), guidance, model.unope or UnoPE())
    noise = initial_noise(np.arange(args.count, dtype=np.uint32), latent_shape(model.config, SIDE, SIDE))
    latent = denoise_latent(model, noise, given, sampling_schedule(args.steps, SIDE, SIDE))
    return np.asarray(latent), decode_latent(model, latent, 1024)


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The cosine of each pair of samples."""
    left, right = (each.reshape(len(each), -1) for each in (found, expected))
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def golden_cosine(base: Base) -> float:
    """The cosine of the reference program's latents after a loop with two references and ours."""
    golden, mesh = load_golden(GOLDEN), make_mesh(devices=jax.devices()[:1])
    config, params = golden.transformer
    shapes, axes = abstract_params(config)
    merged = jax.device_put(merge(params, golden.lora[1]), tree_shardings(mesh, axes, shapes))
    networks = {"mmdit": merged}
    quantize_base(networks, base)
    guidance = jnp.full(1, SAMPLING_GUIDANCE)
    given = Conditioning(
        golden.array("txt")[:1], golden.array("vec")[:1], golden.latents("traj.ref"), guidance
    )
    model = Model(ModelConfig(mmdit=config, **golden.encoders), networks, dtype=jnp.float32)
    noise = channels_last(golden.arrays["traj.noise"])
    found = denoise_latent(model, noise, given, golden.arrays["traj.schedule"])
    return float(cosines(channels_first(found), golden.arrays["traj.latent"])[0])


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
