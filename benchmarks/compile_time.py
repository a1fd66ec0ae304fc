"""Compilation of a narrow FLUX of 19 + 38 blocks against one of 2 + 2: scanned blocks should cost the same.

python -m benchmarks.compile_time
"""

import time

import jax
import jax.numpy as jnp

from benchmarks import flux_71m
from benchmarks.measure import table
from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.lora import abstract_lora
from uno_jax.networks.mmdit import MMDiT
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import abstract_params

NARROW = {"hidden_size": 64, "num_heads": 2, "axes_dim": (8, 12, 12), "vec_in_dim": 24, "context_in_dim": 40}


def cpu_seconds(depth: int, depth_single_blocks: int, gradient: bool) -> float:
    """CPU seconds for tracing and compiling the forward, or its mean square's gradient in the LoRA."""
    config = MMDiTConfig(**NARROW, depth=depth, depth_single_blocks=depth_single_blocks)
    base, lora = abstract_params(config)[0], abstract_lora(config, LoraConfig(rank=4))[0]
    inputs = flux_71m.make_inputs(config, 16, (4, 4), ((4, 4),))

    def loss(lora: dict, base: dict) -> jax.Array:
        out = flux_71m.forward(MMDiT(config), {"params": base, "lora": lora}, inputs)
        return jnp.mean(jnp.square(out))

    start = time.process_time()
    jax.jit(jax.grad(loss) if gradient else loss).lower(lora, base).compile()
    return time.process_time() - start


def main() -> None:
    rows = []
    cpu_seconds(1, 1, False)  # pays what a process pays once
    for name, gradient in (("forward", False), ("LoRA gradient", True)):
        few, many = cpu_seconds(2, 2, gradient), cpu_seconds(19, 38, gradient)
        rows.append((name, f"{few:.1f}", f"{many:.1f}", f"{many / few:.2f}"))
    print(table(("CPU seconds to compile", "2 + 2 blocks", "19 + 38 blocks", "ratio"), rows))


if __name__ == "__main__":
    main()
