"""The other networks in bfloat16: decoding and encoding 1024² and 512², T5 and CLIP of one prompt."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.bench import Bench, peak_gib
from benchmarks.gpu.cases import scaled
from benchmarks.gpu.weights import random_networks
from uno_jax.costs.flops import count_flops
from uno_jax.families.latents import decode_image, encode_vae
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode_clip, encode_t5
from uno_jax.families.uno.sampling import latent_shape
from uno_jax.sharding.rules import make_mesh


def run(bench: Bench) -> None:
    config = bench.model
    model = Model(config, random_networks(config, ("vae", "t5", "clip"), make_mesh()))
    for side in (scaled(bench, 1024), scaled(bench, 512)):
        latent = random((1, *latent_shape(config, side, side)))
        measure(bench, f"autoencoder, decode {side}²", decode_image, model, latent)
        measure(bench, f"autoencoder, encode {side}²", encode_vae, model, random((1, side, side, 3)))
    for name, encode, length in (
        ("T5", encode_t5, config.t5.length),
        ("CLIP", encode_clip, config.clip.max_positions),
    ):
        tokens = jax.random.randint(jax.random.key(0), (1, length), 2, 1000)
        measure(bench, f"{name}, {length} tokens", encode, model, tokens)


def random(shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(jax.random.key(0), shape, jnp.float32, -1, 1)


def measure(bench: Bench, what: str, function: Any, *args: Any) -> None:
    """Compiles and times one call."""
    program = bench.compiled(what, jax.jit(function), *args)
    call: Callable[[], Any] = partial(program, *args)
    ms = bench.ms(call)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
    tflop = count_flops(function, *shapes) / 1e12
    bench.record(what, ms=ms, TFLOP=tflop, peak_GiB=peak_gib(), **{"TFLOP/s": 1e3 * tflop / ms})
