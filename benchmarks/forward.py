"""One forward in float32 against diffusers' FluxTransformer2DModel, eager and compiled, on the same weights.

    python -m benchmarks.forward

All run in one process on one core, taking turns, after a check that all agree. The weights are a random
diffusers model's, converted by tools.convert_weights.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import torch
from diffusers import FluxTransformer2DModel

from benchmarks import flux_71m
from benchmarks.diffusers_flux import diffusers_transformer
from benchmarks.measure import least_cpu_seconds, on_one_core, table
from tools.convert_weights.convert import convert, plan
from tools.convert_weights.source import open_source
from tools.convert_weights.tables import flux
from uno_jax.families.latents import TokenSize, pack
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.positions import position_ids
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.support.command_line import parse_args
from uno_jax.support.trees import Params, count
from uno_jax.weights.checkpoint import restore_network

TOLERANCE = 2e-5  # of the largest value: rounding, above all of angles up to 1000 in the time embedding


@dataclass(frozen=True)
class Args:
    """Time a forward of a 71 M-parameter FLUX, 640 tokens."""

    rounds: int = 30
    """Number of timed calls of each side."""
    compile: bool = True
    """Whether to compare with torch.compile too, which takes a minute to compile."""


def random_transformer(config: MMDiTConfig) -> FluxTransformer2DModel:
    """diffusers' module of the same sizes."""
    torch.manual_seed(0)
    return diffusers_transformer(config).eval()


def converted(module: FluxTransformer2DModel) -> tuple[MMDiTConfig, Params]:
    """A module's config and parameters, converted through files."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "transformer"
        module.save_pretrained(source)
        return restore_network(convert(plan(flux.MODEL, open_source(source)), Path(folder) / "model"))


def ours(config: MMDiTConfig, params: Params, inputs: flux_71m.Inputs) -> Callable[[], np.ndarray]:
    run = jax.jit(lambda variables, inputs: flux_71m.forward(MMDiT(config), variables, inputs))
    return lambda: np.asarray(run({"params": params}, inputs))


def tensors(
    inputs: flux_71m.Inputs, guidance_embed: bool, sizes: Sequence[TokenSize]
) -> dict[str, torch.Tensor]:
    """The arguments of diffusers' module, to which references are further image tokens. `sizes` are those of
    the target and the references.
    """
    latents, text = [inputs.latent, *inputs.conditioning.refs], inputs.conditioning.txt
    packed = np.concatenate([pack(latent) for latent in latents], axis=1)
    ids = position_ids(text.shape[1], sizes[0], list(sizes[1:]), UnoPE())
    arrays = {
        "hidden_states": packed,
        "encoder_hidden_states": text,
        "pooled_projections": inputs.conditioning.vec,
        "timestep": inputs.t,
        "img_ids": ids[text.shape[1] :],
        "txt_ids": ids[: text.shape[1]],
    } | ({"guidance": inputs.conditioning.guidance} if guidance_embed else {})
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in arrays.items()}


def theirs(
    module: Callable, guidance_embed: bool, inputs: flux_71m.Inputs, sizes: Sequence[TokenSize]
) -> Callable[[], np.ndarray]:
    arguments = tensors(inputs, guidance_embed, sizes)
    length = sizes[0][0] * sizes[0][1]

    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(**arguments, return_dict=False)[0][:, :length].numpy()

    return run


def compare(
    config: MMDiTConfig, text: int, sizes: Sequence[TokenSize], rounds: int, compiled: bool
) -> list[tuple[str, str, str, str]]:
    """Rows of the table: side, milliseconds, our speed-up, largest difference from ours.

    Raises ValueError when the sides' results differ.
    """
    module = random_transformer(config)
    config, params = converted(module)
    print(f"{count(params) / 1e6:.1f} M parameters, {text + sum(h * w for h, w in sizes)} tokens, float32")
    inputs = flux_71m.make_inputs(config, text, sizes[0], tuple(sizes[1:]))
    cases = {"uno_jax": ours(config, params, inputs)}
    cases["diffusers, eager"] = theirs(module, config.guidance_embed, inputs, sizes)
    if compiled:
        cases["diffusers, torch.compile"] = theirs(
            torch.compile(module), config.guidance_embed, inputs, sizes
        )
    outputs = {name: call() for name, call in cases.items()}
    expected = outputs["uno_jax"]
    errors = {name: np.abs(out - expected).max() / np.abs(expected).max() for name, out in outputs.items()}
    if max(errors.values()) > TOLERANCE:
        raise ValueError(f"the sides disagree by more than {TOLERANCE} of the largest value: {errors}")
    best = least_cpu_seconds(cases, rounds)
    return [
        (name, f"{1e3 * best[name]:.0f}", f"{best[name] / best['uno_jax']:.2f}x", f"{errors[name]:.1e}")
        for name in cases
    ]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m benchmarks.forward", argv)
    on_one_core()
    torch.set_num_threads(1)
    sizes = (flux_71m.TARGET, *flux_71m.REFS)
    rows = compare(flux_71m.CONFIG, flux_71m.TEXT, sizes, args.rounds, args.compile)
    print(table(("side", "CPU ms", "uno_jax is faster", "difference"), rows))


if __name__ == "__main__":
    main()
