"""One step of LoRA training in float32 against diffusers with peft: forward, backward, clipping and AdamW.

    python -m benchmarks.lora_gradient

All run in one process on one core, taking turns, with checkpointing on both sides and without, after a check
that loss and gradients agree. Base and LoRA are the same on both sides. diffusers' projections
to q, k and v are fused, so that one LoRA serves the three as in UNO.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import optax
import peft
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttention

from benchmarks import flux_71m
from benchmarks.forward import converted, random_transformer, tensors
from benchmarks.measure import least_cpu_seconds, on_one_core, table
from uno_jax.families.flow import interpolate
from uno_jax.families.latents import TokenSize, pack
from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.lora import SITES, abstract_lora
from uno_jax.families.uno.objective import Noised, flow_loss
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.support.command_line import parse_args
from uno_jax.support.trees import Params, count, subtree
from uno_jax.training.config import OptimConfig
from uno_jax.training.optimizer import make_optimizer

TOLERANCE = 1e-4  # of an array's norm: rounding, above all of angles up to 1000 in the time embedding
OPTIM = OptimConfig()
CHECKPOINTED, PLAIN = "diffusers + peft, checkpointed", "diffusers + peft"
# Where diffusers has the layers of lora.SITES, after the name of the block.
THEIR_SITES = (
    "attn.to_qkv",
    "attn.to_out.0",
    "attn.to_added_qkv",
    "attn.to_add_out",
    "attn.to_qkv",
    "proj_out",
)


@dataclass(frozen=True)
class Args:
    """Time a LoRA training step of a 71 M-parameter FLUX, 640 tokens."""

    rank: int = 64
    """Rank of the LoRA."""
    rounds: int = 12
    """Number of timed steps of each side."""


class Side(NamedTuple):
    """One program: `step` takes a step and returns the loss; `moments` are Adam's first moments by site."""

    step: Callable[[], float]
    moments: Callable[[], dict[str, np.ndarray]]


def random_lora(config: MMDiTConfig, rank: int) -> Params:
    """A LoRA without zeros, so that no gradient vanishes."""
    rng = np.random.default_rng(1)
    shapes, _ = abstract_lora(config, LoraConfig(rank))
    return jax.tree.map(lambda leaf: 0.02 * rng.standard_normal(leaf.shape, np.float32), shapes)


def ours(net: MMDiT, params: Params, lora: Params, inputs: flux_71m.Inputs, noise: jax.Array) -> Side:
    optimizer = make_optimizer(OPTIM, steps=1)

    def loss(lora: Params, params: Params, inputs: flux_71m.Inputs, noise: jax.Array) -> jax.Array:
        variables = {"params": params, "lora": lora}
        return flow_loss(net, variables, Noised(inputs.latent, noise, inputs.t), inputs.conditioning)

    @jax.jit(donate_argnums=(0, 1))
    def train_step(lora, state, params, inputs, noise):
        value, grads = jax.value_and_grad(loss)(lora, params, inputs, noise)
        updates, state = optimizer.update(grads, state, lora)
        return optax.apply_updates(lora, updates), state, value

    lora = jax.tree.map(jax.numpy.array, lora)
    held = {"lora": lora, "state": optimizer.init(lora)}

    def step() -> float:
        held["lora"], held["state"], value = train_step(held["lora"], held["state"], params, inputs, noise)
        return float(value)

    def moments() -> dict[str, np.ndarray]:
        mu = optax.tree.get(held["state"], "mu")
        return {
            f"{site} {name}": np.asarray(subtree(mu, site)[name]) for site in SITES for name in ("down", "up")
        }

    return Side(step, moments)


def add_lora(module: FluxTransformer2DModel, lora: Params) -> dict[str, list[torch.nn.Parameter]]:
    """Puts `lora` on the module through peft; returns its parameters, block by block, by our names."""
    rank = subtree(lora, SITES[0])["down"].shape[-1]
    for part in module.modules():
        if isinstance(part, FluxAttention):
            part.fuse_projections()
    pattern = "|".join(sorted({site.replace(".", r"\.") for site in THEIR_SITES}))
    module.add_adapter(peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=rf".*\.({pattern})"))
    parameters = {}
    for site, their_name in zip(SITES, THEIR_SITES, strict=True):
        blocks = module.transformer_blocks if site[0] == "double_blocks" else module.single_transformer_blocks
        layers = [block.get_submodule(their_name) for block in blocks]
        for name, part in (("down", "lora_A"), ("up", "lora_B")):
            weights = [getattr(layer, part)["default"].weight for layer in layers]
            for weight, value in zip(weights, subtree(lora, site)[name], strict=True):
                weight.data = torch.from_numpy(value.T.copy())
            parameters[f"{site} {name}"] = weights
    return parameters


def theirs(
    module: FluxTransformer2DModel,
    parameters: dict[str, list[torch.nn.Parameter]],
    arguments: dict[str, torch.Tensor],
    velocity: torch.Tensor,
    checkpointed: bool,
) -> Side:
    """diffusers' side; `velocity` is the one that the target's tokens should have."""
    flat = [weight for weights in parameters.values() for weight in weights]
    optimizer = torch.optim.AdamW(
        flat, OPTIM.learning_rate, (OPTIM.b1, OPTIM.b2), OPTIM.eps, OPTIM.weight_decay
    )

    def step() -> float:
        (module.enable_gradient_checkpointing if checkpointed else module.disable_gradient_checkpointing)()
        predicted = module(**arguments, return_dict=False)[0][:, : velocity.shape[1]]
        loss = torch.nn.functional.mse_loss(predicted, velocity)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flat, OPTIM.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def moments() -> dict[str, np.ndarray]:
        return {
            name: np.stack([optimizer.state[weight]["exp_avg"].numpy().T for weight in weights])
            for name, weights in parameters.items()
        }

    return Side(step, moments)


def make_sides(
    config: MMDiTConfig, text: int, sizes: Sequence[TokenSize], rank: int, remats: Sequence[str]
) -> dict[str, Side]:
    """Our side for each remat policy, and theirs with and without checkpointing."""
    module = random_transformer(config)
    config, params = converted(module)
    lora = random_lora(config, rank)
    print(f"{count(params) / 1e6:.1f} M parameters, {count(lora) / 1e6:.1f} M of LoRA, float32")
    inputs = flux_71m.make_inputs(config, text, sizes[0], tuple(sizes[1:]))
    noise = jax.random.normal(jax.random.key(0), inputs.latent.shape)
    sides = {
        f"uno_jax, remat {remat}": ours(MMDiT(config, remat=remat), params, lora, inputs, noise)
        for remat in remats
    }
    x_t = interpolate(inputs.latent, noise, inputs.t)
    arguments = tensors(inputs._replace(latent=x_t), config.guidance_embed, sizes)
    velocity = torch.from_numpy(np.array(pack(noise) - pack(inputs.latent)))
    parameters = add_lora(module.train(), lora)
    for name in (CHECKPOINTED, PLAIN):
        sides[name] = theirs(module, parameters, arguments, velocity, name == CHECKPOINTED)
    return sides


def disagreement(side: Side, loss: float, moments: dict[str, np.ndarray]) -> float:
    """Largest difference from `loss` and, at any site, `moments`, relative to their norms, after one step."""
    found = [abs(side.step() - loss) / abs(loss)]
    for name, moment in side.moments().items():
        found.append(np.linalg.norm(moment - moments[name]) / np.linalg.norm(moments[name]))
    return float(max(found))


def compare(sides: dict[str, Side], rounds: int) -> list[tuple[str, str, str, str]]:
    """Rows of the table: side, milliseconds, and how much faster it is than each of diffusers'.

    Raises ValueError when one of our sides differs in the loss or gradients of its first step.
    """
    loss, moments = sides[CHECKPOINTED].step(), sides[CHECKPOINTED].moments()
    worst = max(
        disagreement(side, loss, moments) for name, side in sides.items() if name.startswith("uno_jax")
    )
    if worst > TOLERANCE:
        raise ValueError(f"loss or gradients disagree by {worst:.1e} of their norm")
    print(f"loss and gradients agree to {worst:.1e} of their norm")
    best = least_cpu_seconds({name: side.step for name, side in sides.items()}, rounds)
    return [
        (name, f"{1e3 * taken:.0f}", f"{best[CHECKPOINTED] / taken:.2f}x", f"{best[PLAIN] / taken:.2f}x")
        for name, taken in best.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m benchmarks.lora_gradient", argv)
    on_one_core()
    torch.set_num_threads(1)
    sizes = (flux_71m.TARGET, *flux_71m.REFS)
    remats = ("full", "selective", "none")
    sides = make_sides(flux_71m.CONFIG, flux_71m.TEXT, sizes, args.rank, remats)
    rows = compare(sides, args.rounds)
    print(table(("side", "CPU ms a step", "faster than checkpointed", "faster than not"), rows))


if __name__ == "__main__":
    main()
