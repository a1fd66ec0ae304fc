"""The persistent compilation cache: a program compiled once for a shape is reused by later processes."""

import os
from pathlib import Path

import jax

LEAST_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def cache_folder() -> Path:
    """This program's folder in the user's cache directory, whether it exists or not."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uno_jax"


def use_compile_cache() -> Path:
    """Keeps compiled programs in JAX's configured directory (JAX_COMPILATION_CACHE_DIR), or else in the
    user's cache directory. Returns that directory.
    """
    configured = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not configured:
        configured = str(cache_folder() / "xla")
        jax.config.update("jax_compilation_cache_dir", configured)
    # By default JAX keeps what took a second to compile: the many small programs of a start did not.
    if LEAST_SECONDS not in os.environ:
        jax.config.update(LEAST_SECONDS.lower(), 0.0)
    return Path(configured)
