"""Drawing and writing from cached contexts, as `uno-sample` does, against the whole sequence each step."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import least_cpu_seconds
from benchmarks.scone.model import random_inputs, random_params
from uno_jax.families.flow import euler_step
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import bucket, pad_part, padded_split
from uno_jax.families.scone.config import EYES, SconeConfig
from uno_jax.families.scone.contexts import Item, grow, make_contexts
from uno_jax.families.scone.drawing import Drawing, denoise
from uno_jax.families.scone.guidance import Guidance, guided, schedule, segments
from uno_jax.families.scone.splits import rope_positions
from uno_jax.families.scone.writing import next_tokens
from uno_jax.networks.mot import MoT, MoTConfig, MoTInputs, grid_places
from uno_jax.networks.splits import Layout, Split, Splits
from uno_jax.networks.vae import VAEConfig
from uno_jax.support.compiler_options import EIGEN_PRODUCTS
from uno_jax.support.trees import Params

TOLERANCE = 1e-4  # of the largest value, after all steps
GUIDANCE = Guidance()


class Compared(NamedTuple):
    """CPU seconds of what is done once, and of a step from the cache and without."""

    prefill: float
    cached: float
    whole: float

    def speedup(self, steps: int) -> float:
        return self.whole * steps / (self.prefill + self.cached * steps)


def model_of(config: MoTConfig) -> Model:
    """A model of random weights that never ends a text."""
    params = random_params(config)
    head = params["lm_head"]["kernel"].at[:, config.eos_id].set(0)  # others are above 0
    width, side = config.vit_size, config.vit_side
    eyes = replace(EYES, hidden_size=width, intermediate_size=width, num_heads=1, grid=side)
    pixels = VAEConfig(latent_channels=config.latent_channels)
    trees = {"mot": params | {"lm_head": {"kernel": head}}}
    return Model(SconeConfig(config, eyes, pixels), trees)


def items(inputs: MoTInputs, splits: Splits) -> list[Item]:
    """What is shown, of a sequence."""
    given = {kind: iter(getattr(inputs, name)) for kind, name in PARTS.items()}
    found = []
    for split in splits:
        values = np.asarray(next(given[split.kind]))
        places = None if split.kind == "text" else grid_places(split.rows, split.columns)
        padded = padded_split(split.kind, split.tokens)
        item = "text" if split.kind == "text" else "reference"
        found.append(Item(item, ((padded, pad_part(values, padded.columns, places)),)))
    return found


PARTS = {"text": "text", "vit": "cells", "vae": "latents"}


def drawing(config: MoTConfig, splits: Splits, steps: int, rounds: int) -> Compared:
    """Steps with guidance by text and references. `splits` end in a text and a target.

    Raises ValueError where both ways draw something else.
    """
    model, inputs = model_of(config), random_inputs(config, splits)
    shown, target = items(inputs, splits[:-1]), splits[-1]
    times = jnp.asarray(schedule(steps + 1, 3.0))
    contexts, reads = make_contexts(model, shown, GUIDANCE)
    settings = Drawing(target, GUIDANCE, reads, segments(np.asarray(times), GUIDANCE))
    noise = inputs.latents[-1]

    def cached() -> np.ndarray:
        return np.asarray(denoise(model, noise, contexts, times, settings))

    def whole() -> np.ndarray:
        return np.asarray(run(model.params["mot"], noise))

    run = jax.jit(_drawn_whole(config, splits, inputs, times), compiler_options=options())
    check(cached(), whole())
    prefill = lambda: jax.block_until_ready(make_contexts(model, shown, GUIDANCE)[0])  # noqa: E731
    best = least_cpu_seconds({"prefill": prefill, "cached": cached, "whole": whole}, rounds)
    return Compared(best["prefill"], best["cached"] / steps, best["whole"] / steps)


def options() -> dict[str, Any] | None:
    """The compiler's, as those of the functions that draw."""
    return EIGEN_PRODUCTS.get(jax.default_backend())


def check(first: np.ndarray, second: np.ndarray) -> None:
    error = np.abs(first - second).max() / np.abs(second).max()
    if error > TOLERANCE:
        raise ValueError(f"with and without the cache differ by {error:.1e} of the largest value")


def _drawn_whole(config: MoTConfig, splits: Splits, inputs: MoTInputs, times: jax.Array) -> Any:
    """Every branch's whole sequence in every step."""
    branches = {
        "cond": splits,
        "text": tuple(split for split in splits if split.kind != "text"),
        "image": tuple(split for split in splits if split.kind in ("text", "target")),
    }

    def velocity(params: Params, x: jax.Array, t: jax.Array, splits: Splits) -> jax.Array:
        kinds = {split.kind for split in splits}
        own = MoTInputs(
            text=inputs.text if "text" in kinds else (),
            cells=inputs.cells if "vit" in kinds else (),
            latents=(*(inputs.latents[:-1] if "vae" in kinds else ()), x),
            times=jnp.full((1, 1), t),
            positions=rope_positions(splits)[None],
        )
        variables = {"params": params}
        hidden: Any = MoT(config).apply(variables, own, Layout(splits))
        return MoT(config).apply(variables, hidden.gen[:, -splits[-1].tokens :], method="velocity")  # type: ignore[return-value]

    def run(params: Params, noise: jax.Array) -> jax.Array:
        def step(x: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            found = {name: velocity(params, x, now[0], each) for name, each in branches.items()}
            return euler_step(x, guided(found, GUIDANCE), *now), None

        return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]

    return run


def writing(config: MoTConfig, splits: Splits, tokens: int, rounds: int) -> Compared:
    """Tokens of a text after `splits`, greedily.

    Raises ValueError where the whole sequence has other likeliest tokens.
    """
    model, inputs = model_of(config), random_inputs(config, splits)
    shown, most = items(inputs, splits), bucket(tokens)
    context, _ = grow(model, shown, most)
    seeds = np.zeros(1, np.uint32)

    def cached() -> np.ndarray:
        return np.asarray(next_tokens(model, context, seeds, 0.0, tokens, most)[0])[:, :tokens]

    written = cached()
    begun = np.concatenate([[[config.bos_id]], written[:, :-1]], axis=1)
    longer = (*splits, Split("text", 1, tokens))
    given = inputs._replace(text=(*inputs.text, jnp.asarray(begun)), positions=rope_positions(longer)[None])

    def likeliest(params: Params, given: MoTInputs) -> jax.Array:
        hidden: Any = MoT(config).apply({"params": params}, given, Layout(longer))
        return MoT(config).apply({"params": params}, hidden.und[:, -tokens:], method="logits").argmax(-1)  # type: ignore[union-attr]

    run = jax.jit(likeliest, compiler_options=options())
    whole = lambda: np.asarray(run(model.params["mot"], given))  # noqa: E731
    if not np.array_equal(whole(), written):
        raise ValueError("with and without the cache other tokens are the likeliest")
    prefill = lambda: jax.block_until_ready(grow(model, shown, most)[0].keys)  # noqa: E731
    best = least_cpu_seconds({"prefill": prefill, "cached": cached, "whole": whole}, rounds)
    return Compared(best["prefill"], best["cached"] / tokens, best["whole"])
