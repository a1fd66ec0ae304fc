"""jax.jit that keeps the programs of the latest shapes only.

jax.jit keeps every program that it compiled: with references of hundreds of shapes memory would grow without
end, by about 20 MB a shape even for a tiny model on the CPU.
"""

import atexit
import contextlib
import os
import signal
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import wraps
from threading import Thread, current_thread
from typing import Any, ParamSpec, TypeVar, cast

import jax

from uno_jax.support.memory import trim_heap

P = ParamSpec("P")
R = TypeVar("R")
_compilations: set[Thread] = set()  # of `compile_ahead`, which still run
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
    back. Inlined where a jitted function calls it. The attribute `programs` holds what is kept, and `ahead`
    is what `compile_ahead` calls.
    """
    programs: OrderedDict[Any, Any] = OrderedDict()
    begun: dict[Any, Thread] = {}

    def take(key: Any) -> Any:
        """The program of these arguments, in the place of the one used last."""
        program = programs.pop(key, None) or _fresh(function, compiler_options or {}, options)
        programs[key] = program
        if len(programs) > kept:
            oldest, dropped = programs.popitem(last=False)
            begun.pop(oldest, None)
            dropped.clear_cache()
            trim_heap()
        return program

    def ahead(*args: P.args, **kwargs: P.kwargs) -> None:
        key = _key(*jax.tree.flatten((args, kwargs)))
        if key not in programs and len(begun) < kept:  # more would let go of those that were begun before
            begun[key] = _compiling(take(key), args, kwargs)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves, tree = jax.tree.flatten((args, kwargs))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*args, **kwargs)
        key = _key(leaves, tree)
        if compiling := begun.pop(key, None):
            compiling.join()
        return cast(R, take(key)(*args, **kwargs))

    call.programs, call.ahead = programs, ahead  # type: ignore[attr-defined]
    return call


def compile_ahead(function: Any, *args: Any) -> None:
    """Begins to compile a function of `bounded_jit` for these arguments, which may be abstract, while other
    things are done; a call with such arguments waits for that. They must lie where the call's will lie: JAX
    compiles anew for arrays that lie elsewhere.
    """
    function.ahead(*args)


def _compiling(program: Any, args: Any, kwargs: Any) -> Thread:
    mesh = jax.sharding.get_mesh()

    def compile_it() -> None:
        # What goes wrong is reported by the call, which then compiles.
        with contextlib.suppress(Exception), contextlib.nullcontext() if mesh.empty else jax.set_mesh(mesh):
            program.lower(*args, **kwargs).compile()
        _compilations.discard(current_thread())

    thread = Thread(target=compile_it, daemon=True)  # `_finish` waits for it
    _compilations.add(thread)
    thread.start()
    return thread


@atexit.register
def _finish() -> None:
    """Waits for compilations that nobody called for, after an error or a Ctrl-C: Python must not end while
    they run. Another Ctrl-C ends the process at once; where Python waits itself, it would abort.
    """
    try:
        for thread in tuple(_compilations):
            thread.join()
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)


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
