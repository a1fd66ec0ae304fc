"""jax.jit that keeps the programs of the latest shapes only.

jax.jit keeps every program that it compiled: with references of hundreds of shapes memory would grow without
end, by about 20 MB a shape even for a tiny model on the CPU.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import jax

from uno_jax.support.memory import trim_heap

P = ParamSpec("P")
R = TypeVar("R")
KEPT = 8  # programs of a function, about 160 MB for all functions of a picture on the CPU


def bounded_jit(
    function: Callable[P, R],
    kept: int = KEPT,
    compiler_options: Mapping[str, dict[str, Any]] | None = None,
    **options: Any,
) -> Callable[P, R]:
    """The function compiled by `jax.jit` with `options`, for each shape of its arguments when it first
    occurs, and with the `compiler_options` of this process's platform. The programs of the `kept` shapes
    used last stay; another shape lets go of the one unused for longest, which is compiled again when it comes
    back. Inlined where a jitted function calls it. The attribute `programs` holds what is kept.
    """
    programs: OrderedDict[Any, Any] = OrderedDict()

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves, tree = jax.tree.flatten((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*args, **kwargs)
        key = _key(leaves, tree)
        program = programs.pop(key, None) or _fresh(function, compiler_options or {}, options)
        programs[key] = program
        if len(programs) > kept:
            programs.popitem(last=False)[1].clear_cache()
            trim_heap()
        return cast(R, program(*args, **kwargs))

    call.programs = programs  # type: ignore[attr-defined]
    return call


def is_compiled(function: Any, *args: Any) -> bool:
    """Whether a function of `bounded_jit` holds the program for these arguments."""
    return _key(*jax.tree.flatten((args, {}))) in function.programs


def _key(leaves: list[Any], tree: Any) -> Any:
    return tree, tuple(map(_kind, leaves))


def _fresh(
    function: Callable[..., Any], by_platform: Mapping[str, dict[str, Any]], options: dict[str, Any]
) -> Any:
    """A jitted function with programs of its own; jax.jit shares those of one function object."""

    @wraps(function)
    def own(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return jax.jit(own, compiler_options=by_platform.get(jax.default_backend()), **options)


def _kind(leaf: Any) -> Any:
    """What a program depends on of an argument: its shape and dtype, that it is a float, or its value."""
    if hasattr(leaf, "shape"):
        return leaf.shape, leaf.dtype
    return float if isinstance(leaf, float) else (type(leaf), leaf)
