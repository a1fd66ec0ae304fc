"""The XLA flags of the programs, set before the first computation.

Both concern the CPU and are known to the jaxlibs of JAX 0.10 to 0.12. Measured with benchmarks/forward.py:
together 12 % of a forward.
"""

import os

FLAGS = {
    # Loops keep less alive at a time, so that more of it is in cache.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    # XLA's own matrix products are faster than YNNPACK's; reductions are not.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}


def use_xla_flags() -> None:
    """Adds them to XLA_FLAGS, which XLA reads when it first starts; flags given there win."""
    given = os.environ.get("XLA_FLAGS", "")
    missing = [f"--{name}={value}" for name, value in FLAGS.items() if f"--{name}=" not in given]
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *missing])
