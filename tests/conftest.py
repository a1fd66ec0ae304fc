"""Set before jax is imported, for the tests and the programs they start: CPU, one compilation cache, and
programs that are not optimised: at these sizes that costs more time than it saves.
"""

import os
import signal
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)
