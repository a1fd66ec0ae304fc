"""FLUX.1-dev's programs for a GPU that is not here, weighed by kernels, with blocks stacked and separate.

    python -m benchmarks.weighed --card h100 --programs forward
    python -m benchmarks.weighed --card h100 --programs step --batch 4 --remat full --encoded
    python -m benchmarks.weighed --card h100 --blocks separate --base fp8-products

Needs the extra plan-gpu, and quant for a base. Milliseconds are at the rates that an H100 and an H200 were
measured to reach (`chips.GPU_REACHED`; products in 8 bits, which were not measured, at the same share of
their peak): those of all kernels, of products, attention and convolutions (the floor), of copies and of the
rest, then the ratio to the floor, GiB of arguments and of temporaries, and seconds to trace and compile. A
forward is one of the 25 steps of a loop; a step is stage I's, 512² with a reference of 512².
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jax.sharding import Mesh

from benchmarks.gpu.parts.lora import ENCODERS, batch_shapes
from configs.uno_stage1 import get_config
from uno_jax.costs.devices import assumptions, chip_of, compiler_options, find_devices
from uno_jax.costs.program import abstract, placed
from uno_jax.costs.weigh import FLOOR, rows_by, weigh
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.model import Model
from uno_jax.families.uno.config import PRESETS, UnoPE
from uno_jax.families.uno.sampling import denoise_latent, latent_shape
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.registry import abstract_params, arrange
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.training import plan
from uno_jax.training.state import make_run_mesh, model_config
from uno_jax.training.step import make_step
from uno_jax.weights.base import Base

STEPS = 25
SIZES = ((1024, 0, 0), (704, 2, 320), (512, 1, 512))
FLUX = PRESETS["flux_dev"]
Lowered = tuple[str, Any, int]
"""A name, what lowers a program, and how many of the named thing it holds."""


class Args(NamedTuple):
    """What to weigh."""

    card: str = "h100"
    """Name of the card."""
    programs: Literal["forward", "step"] = "forward"
    """Sampling's forward at three sizes, or stage I's step."""
    batch: int = 1
    """Samples of the step."""
    remat: Literal["none", "selective", "full"] = "full"
    """Rematerialisation of the step."""
    encoded: bool = False
    """The step takes encodings, and runs no encoder."""
    base: Base = ""
    """The blocks' kernels in 8 bits."""
    blocks: Literal["both", "stacked", "separate"] = "both"
    """How the blocks are arranged."""


# The platform whose blocks are arranged so.
ARRANGED = {"stacked": "cpu", "separate": "gpu"}


def main(args: Args) -> None:
    device = find_devices(args.card)[0]
    print(f"{args.card}: {assumptions(device)}")
    columns = f"{'floor':>8} {'copies':>7} {'rest':>7} {'ratio':>6} {'given':>6} {'temp':>6} {'s':>5}"
    print(f"{'':64} {'ms':>8} {columns}")
    for blocks, platform in ARRANGED.items():
        if args.blocks not in ("both", blocks):
            continue
        programs = forwards if args.programs == "forward" else steps
        for name, lower, count in programs(device, platform, args):
            print_row(f"{name}, {args.base or 'bfloat16'}, {blocks}", device, lower, count)


def print_row(name: str, device: jax.Device, lower: Any, count: int) -> None:
    start = time.monotonic()
    compiled = lower().compile(compiler_options(device))
    seconds = time.monotonic() - start
    rows = {
        row.name: 1e3 * row.seconds / count
        for row in rows_by(weigh(compiled.as_text(), chip_of(device)), "kind")
    }
    total, floor, copies = sum(rows.values()), sum(rows.get(name, 0) for name in FLOOR), rows.get("copies", 0)
    memory = compiled.memory_analysis()
    sizes = (memory.argument_size_in_bytes / 2**30, memory.temp_size_in_bytes / 2**30)
    rest, ratio = total - floor - copies, total / floor
    times = f"{total:8.1f} {floor:8.1f} {copies:7.1f} {rest:7.1f} {ratio:6.3f}"
    print(f"{name:64} {times} {sizes[0]:6.2f} {sizes[1]:6.2f} {seconds:5.0f}", flush=True)


def forwards(device: jax.Device, platform: str, args: Args) -> Iterator[Lowered]:
    mesh = make_mesh(fsdp=1, tensor=-1, devices=[device])
    shapes, axes = abstract_params(FLUX.mmdit, jnp.bfloat16)
    params = {"mmdit": placed(shapes, tree_shardings(mesh, axes, shapes))}
    if args.base:
        from uno_jax.networks.quantize import quantize_base

        quantize_base(params, args.base)
    model = Model(FLUX, {"mmdit": arrange("mmdit", params["mmdit"], platform)}, dtype=jnp.bfloat16)
    for side, refs, ref_side in SIZES:
        given = conditioning(mesh, refs, ref_side)
        noise = abstract((1, *latent_shape(FLUX, side, side)), jnp.float32, mesh)
        schedule = sampling_schedule(STEPS, side, side)
        name = f"forward, {side}²" + (f" and {refs} of {ref_side}²" if refs else "")

        def lower(noise: Any = noise, given: Any = given, schedule: Any = schedule) -> Any:
            with jax.set_mesh(mesh):
                return jax.jit(lambda *parts: denoise_latent(*parts, schedule)).lower(model, noise, given)

        yield name, lower, STEPS


def conditioning(mesh: Mesh, refs: int, ref_side: int) -> Conditioning:
    txt = abstract((1, FLUX.t5.length, FLUX.t5.d_model), jnp.bfloat16, mesh)
    vec = abstract((1, FLUX.clip.hidden_size), jnp.bfloat16, mesh)
    ref = abstract((1, *latent_shape(FLUX, ref_side, ref_side)), jnp.float32, mesh)
    return Conditioning(txt, vec, (ref,) * refs, abstract((1,), jnp.float32, mesh), UnoPE())


def steps(device: jax.Device, platform: str, args: Args) -> Iterator[Lowered]:
    given = {"batch_size": args.batch, "accumulate": 1, "remat": args.remat, "base": args.base}
    config = dataclasses.replace(get_config(), weights="", **given)
    model, mesh = model_config(config), make_run_mesh(config, [device])

    def lower() -> Any:
        state, frozen, optimizer = plan.abstract_state(config, model, mesh, platform)
        if args.encoded:
            frozen = {kind: tree for kind, tree in frozen.items() if kind not in ENCODERS}
        shapes = batch_shapes(model, config, args.encoded)
        batch = jax.tree.map(lambda leaf: abstract(leaf.shape, leaf.dtype, mesh), shapes)
        with jax.set_mesh(mesh):
            key = abstract((), jax.eval_shape(lambda: jax.random.key(0)).dtype, mesh)
            return make_step(config, model, optimizer, state).lower(state, frozen, batch, key)

    encoded = ", encoded" if args.encoded else ""
    yield f"step a sample{encoded}, batch {args.batch}, remat {args.remat}", lower, args.batch


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
