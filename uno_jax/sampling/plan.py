"""`uno-sample --plan v6e:2x4`: what each stage of sampling needs, before weights are loaded."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from uno_jax.costs.chips import Chip
from uno_jax.costs.devices import assumptions, chip_of, find_devices
from uno_jax.costs.program import Program, fits, memory_line, placed, print_weighed, work_line
from uno_jax.families.family import ONE_STEP, PlannedSampling
from uno_jax.families.registry import PRESETS, family_of
from uno_jax.networks.registry import abstract_params, arrange
from uno_jax.sampling.request import check_request, make_settings
from uno_jax.sampling.settings import SampleArgs, choose_unope, given_options
from uno_jax.sharding.rules import tree_shardings
from uno_jax.support.trees import Params, count
from uno_jax.support.words import counted
from uno_jax.weights.base import check_base
from uno_jax.weights.load import read_model_config
from uno_jax.weights.sample_mesh import SampleMesh, sampling_mesh


def plan_sampling(args: SampleArgs) -> None:
    """Prints every stage's plan on the hardware `args.plan`, with fewer pictures at once until they fit.

    Raises PlanError or ValueError before anything is compiled.
    """
    devices = find_devices(args.plan)
    check_base(args.base, devices[0])
    config = PRESETS[args.model] if args.model in PRESETS else read_model_config(args.model)
    if args.offload:
        family_of(config).need_stages()
    asked, dtype = planned(args, config), args.dtype or "bfloat16"
    check_request(config, asked.width, asked.height, 0)
    mesh = sampling_mesh(args.mesh, devices, config, dtype)
    params, chip, chips = abstract_weights(config, mesh, dtype, args.base), chip_of(devices[0]), len(devices)
    print(f"{args.plan}: {chips} {chip.name}, {spread(mesh.shape)}")
    if assumed := assumptions(devices[0]):
        print(f"  {assumed}")
    size, refs = f"{asked.width}x{asked.height}", counted(args.refs, "reference")
    kept = f"{dtype}, blocks' kernels {args.base}" if args.base else dtype
    print(f"  {count(params):,} parameters, {kept}; {size}, {refs}")
    while True:
        programs = family_of(config).sampler.plan(config, params, mesh, asked)
        print(f"\n{counted(asked.batch, 'picture')} at once")
        print_programs(programs, chip, chips, args.detail)
        if all(fits(program, chip) for program in programs.values()):
            return
        if asked.batch == 1:
            print("a single picture does not fit; take more chips or a smaller picture")
            return
        asked = asked._replace(batch=asked.batch // 2)


def spread(axes: Mapping[str, int]) -> str:
    """How pictures are spread over the chips of a mesh."""
    each = axes["tensor"] * axes["sequence"]
    groups = math.prod(axes.values()) // each
    shares = f"tensor {axes['tensor']}, sequence {axes['sequence']}"
    if groups == 1:
        return f"a picture spread over all of them ({shares})"
    return (
        f"a picture spread over {each} of them ({shares}); the {groups} groups of so many share the weights"
    )


def picture_operations(model: str, width: int, height: int, steps: int, refs: int) -> int:
    """Operations of one picture by a model, or by the preset of that name, counted from shapes.

    Raises ValueError for a size that it cannot draw, CheckpointError where there is no such model.
    """
    config = PRESETS[model] if model in PRESETS else read_model_config(model)
    check_request(config, width, height, 0)
    side = family_of(config).sampler.reference_side(config, refs, None)
    settings = make_settings(config, None, {"steps": steps})
    asked = PlannedSampling(width, height, refs, side, 1, settings, compiled=False)
    mesh = sampling_mesh(SampleMesh(), jax.local_devices()[:1], config, "bfloat16")
    programs = family_of(config).sampler.plan(config, abstract_weights(config, mesh, "bfloat16"), mesh, asked)
    return sum(program.flops for name, program in programs.items() if name != ONE_STEP)


def planned(args: SampleArgs, config: Any) -> PlannedSampling:
    """The batch of pictures that a command line asks about."""
    width, height = (side or config.defaults.resolution for side in (args.width, args.height))
    side = family_of(config).sampler.reference_side(config, args.refs, args.ref_size)
    settings = make_settings(config, choose_unope(args, None), given_options(args))
    return PlannedSampling(width, height, args.refs, side, args.batch_size, settings, args.offload)


def print_programs(programs: dict[str, Program], chip: Chip, chips: int, detail: bool = False) -> None:
    """Prints a paragraph for each program, and the work of all of them."""
    for name, program in programs.items():
        print(f"  {name}\n    {memory_line(program, chip)}")
        print(f"    {work_line(program.flops, chip, chips)}; compiled in {program.seconds:.0f} s")
        if name != ONE_STEP:
            print_weighed(program, chip, chips, detail, "    ")
    work = sum(program.flops for name, program in programs.items() if name != ONE_STEP)
    print(f"  all stages: {work_line(work, chip, chips)}", flush=True)


def abstract_weights(config: Any, mesh: Mesh, dtype: str, base: str = "") -> dict[str, Params]:
    """Shapes of every network's parameters, placed as `weights.load.load_model` places them."""
    trees = {
        kind: abstract_params(getattr(config, kind), jnp.dtype(dtype)) for kind in family_of(config).networks
    }
    params = {
        kind: placed(shapes, tree_shardings(mesh, axes, shapes)) for kind, (shapes, axes) in trees.items()
    }
    if base:
        from uno_jax.networks.quantize import quantize_base  # needs qwix, an extra

        quantize_base(params, base)
    platform = mesh.devices.flat[0].platform
    return {kind: arrange(kind, tree, platform) for kind, tree in params.items()}
