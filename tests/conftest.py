"""Set up before jax is imported, by the tests and by the programs they start: the CPU, and one compilation cache."""

import os
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
