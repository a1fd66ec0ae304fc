"""The persistent compilation cache: a program compiled once for a shape is reused by later processes."""

import os
from pathlib import Path

import jax


def use_compile_cache() -> Path:
    """Keeps compiled programs in JAX's configured directory (JAX_COMPILATION_CACHE_DIR), or else in the
    user's cache directory. Returns that directory.
    """
    configured = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not configured:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        configured = str(Path(home) / "uno_jax" / "xla")
        jax.config.update("jax_compilation_cache_dir", configured)
    return Path(configured)
