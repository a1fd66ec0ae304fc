"""`python -m uno_jax.sample --plan v6e:2x4`: what each stage of sampling needs, before weights are loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from uno_jax.costs.chips import PlanError, chip_of, find_devices
from uno_jax.costs.program import (
    Program,
    abstract,
    chip_bytes,
    compile_program,
    fits,
    memory_line,
    placed,
    work_line,
)
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.uno.lora import count
from uno_jax.families.uno.types import Conditioning
from uno_jax.networks.config import PRESETS, ModelConfig
from uno_jax.networks.registry import Params, abstract_params
from uno_jax.sampling import generate
from uno_jax.sampling.request import check_request, make_settings, ref_side
from uno_jax.sharding.rules import make_mesh, tree_shardings
from uno_jax.support.command_line import parse_args
from uno_jax.weights.checkpoint import NETWORKS
from uno_jax.weights.load import read_model_config

STEP = "one denoising step"


@dataclass(frozen=True)
class Args:
    """Plan sampling: memory a chip, work and time of every stage, compiled without loading weights."""

    model: str = "small"
    """A preset's name, or a directory of converted networks, of which only the numbers are read."""
    width: int | None = None
    """Pixels, a multiple of 16; default the model's resolution (512 for FLUX)."""
    height: int | None = None
    """As width."""
    refs: int = 1
    """References a picture."""
    ref_size: int | None = None
    """Side of references in pixels; default the model's, for FLUX 512 for one and
    320 for several.
    """
    steps: int | None = None
    """Euler steps; default 25, for schnell 4."""
    true_cfg: float | None = None
    """Classifier-free guidance, for twice the work; default the model's, 1 (none) for FLUX."""
    batch_size: int = 4
    """Pictures made at once."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"


def plan_sampling(where: str, argv: Sequence[str]) -> None:
    """Prints every stage's plan, with fewer pictures at once until they fit. Raises PlanError or ValueError
    first.
    """
    args = parse_args(Args, "python -m uno_jax.sample --plan TOPOLOGY", argv)
    devices = find_devices(where)
    config = PRESETS[args.model] if args.model in PRESETS else read_model_config(args.model)
    width, height = (side or config.mmdit.resolution for side in (args.width, args.height))
    check_request(config, width, height, 0)
    if args.batch_size < 1 or args.refs < 0:
        raise PlanError(
            f"--batch-size must be 1 or more and --refs 0 or more, got {args.batch_size} and {args.refs}"
        )
    chip = chip_of(devices[0])
    # As pretrained.load_model spreads the weights.
    mesh = make_mesh(fsdp=1, tensor=-1, devices=devices)
    params = abstract_weights(config, mesh, jnp.dtype(args.dtype))
    print(f"{where}: {len(devices)} {chip.name}, weights spread over all of them (tensor {len(devices)})")
    print(f"  {count(params):,} parameters, {args.dtype}; {width}x{height}, {args.refs} references")
    batch = args.batch_size
    while True:
        programs = plan_stages(config, params, mesh, args, batch, (width, height))
        print(f"\n{batch} pictures at once")
        for name, program in programs.items():
            print(f"  {name}\n    {memory_line(program, chip)}")
            print(f"    {work_line(program.flops, chip, len(devices))}; compiled in {program.seconds:.0f} s")
        work = sum(program.flops for name, program in programs.items() if name != STEP)
        print(f"  all stages: {work_line(work, chip, len(devices))}", flush=True)
        if all(fits(program, chip) for program in programs.values()):
            return
        if batch == 1:
            print("a single picture does not fit; take more chips or a smaller picture")
            return
        batch //= 2


def abstract_weights(config: ModelConfig, mesh: Mesh, dtype: Any) -> dict[str, Params]:
    """Every network as `pretrained.load_model` places it."""
    trees = {kind: abstract_params(getattr(config, kind), dtype) for kind in NETWORKS}
    return {
        kind: placed(shapes, tree_shardings(mesh, axes, shapes)) for kind, (shapes, axes) in trees.items()
    }


def plan_stages(
    config: ModelConfig, params: dict[str, Params], mesh: Mesh, args: Args, batch: int, size: tuple[int, int]
) -> dict[str, Program]:
    """The programs of `generate.sample_batch` by name; every network's weights are there all the time."""
    dtype, weights, cells = jnp.dtype(args.dtype), chip_bytes(params), config.vae.downsampling
    width, height = size
    array = partial(abstract, mesh=mesh)
    channels = config.vae.latent_channels

    def latent(width: int, height: int) -> Any:
        return array((batch, height // cells, width // cells, channels), jnp.float32)

    def compiled(function: Callable, networks: dict[str, Params], *inputs: Any) -> Program:
        program = compile_program(
            jax.jit(function), (networks, *inputs), {"weights": networks, "inputs": inputs}, mesh
        )
        others = weights - program.inputs["weights"]
        return program._replace(inputs=program.inputs | {"weights": weights}, used=program.used + others)

    def text(networks: dict[str, Params], t5: Any, clip: Any) -> Any:
        return generate.encode_text(config, networks, t5, clip, dtype)

    def reference(networks: dict[str, Params], picture: Any) -> Any:
        return generate.encode_image(config, networks, picture, dtype)

    def denoise(
        schedule: Any,
        networks: dict[str, Params],
        noise: Any,
        conditioning: Conditioning,
        plain: Conditioning | None,
    ) -> Any:
        variables = {"params": networks["mmdit"]}
        return generate.denoise_latent(
            *(config.mmdit, variables, noise, conditioning, schedule, guidance),
            *(settings.unope, dtype, plain, settings.true_cfg),
        )

    def decode(networks: dict[str, Params], latent: Any) -> Any:
        return generate.decode_image(config, networks, latent, dtype)

    settings = make_settings(config.mmdit, args.steps, true_cfg=args.true_cfg)
    guidance = settings.guidance or 0.0
    side = ref_side(config.mmdit, args.refs, args.ref_size)
    t5, clip, vae, mmdit = ({kind: params[kind]} for kind in ("t5", "clip", "vae", "mmdit"))
    tokens = [array((batch, length), jnp.int32) for length in (config.t5.length, config.clip.max_positions)]
    programs = {"text (T5 and CLIP)": compiled(text, t5 | clip, *tokens)}
    if args.refs:
        picture = array((batch, side, side, 3), jnp.float32)
        one = compiled(reference, vae, picture)
        programs[f"references ({args.refs} of {side}x{side}, one after another)"] = one._replace(
            flops=one.flops * args.refs
        )
    txt: Any = array((batch, config.t5.length, config.t5.d_model), dtype)
    vec: Any = array((batch, config.clip.hidden_size), dtype)
    conditioning = Conditioning(txt, vec, (latent(side, side),) * args.refs)
    schedule = sampling_schedule(settings.steps, width, height, shift=config.mmdit.guidance_embed)
    plain = None if settings.true_cfg == 1 else Conditioning(txt, vec)
    loop = compiled(partial(denoise, schedule), mmdit, latent(width, height), conditioning, plain)
    programs[STEP] = loop._replace(flops=loop.flops // settings.steps)
    programs[f"all {settings.steps} denoising steps (one program)"] = loop
    tile = (width, height) if width * height <= settings.tile**2 else (settings.tile, settings.tile)
    programs[f"decode {tile[0]}x{tile[1]}"] = compiled(decode, vae, latent(*tile))
    return programs
