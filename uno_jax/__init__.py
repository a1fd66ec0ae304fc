"""UNO and Scone in JAX/Flax: models that draw the subjects that they are shown.

`load_model`, `generate`, `answer` and `UnoPE` are imported when they are first used, so that `import uno_jax`
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["UnoPE", "__version__", "answer", "generate", "load_model"]

if TYPE_CHECKING:
    from uno_jax.families.uno.config import UnoPE
    from uno_jax.sampling.generate import answer, generate
    from uno_jax.weights.load import load_model

PLACES = {
    "UnoPE": "uno_jax.families.uno.config",
    "answer": "uno_jax.sampling.generate",
    "generate": "uno_jax.sampling.generate",
    "load_model": "uno_jax.weights.load",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
