"""Floating-point operations of a function, counted on abstract shapes: nothing is compiled or computed.

Matrix products and convolutions are counted, two operations per multiply-add, without those whose results
nothing needs, such as a frozen kernel's gradient. XLA's own count takes the body of a loop once; here it
counts once per iteration.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters.partial_eval import dce_jaxpr
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from uno_jax.sharding.rules import make_mesh


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Operations of `function(*args)`, whose arguments may be ShapeDtypeStructs. The most expensive
    branch of a conditional counts.

    Traced as for one CPU, where attention is plain JAX; on accelerators it is a kernel whose products cannot
    be seen.

    Raises ValueError for a while loop with products inside, whose number of iterations is unknown.
    """
    # An abstract CPU device: JAX_PLATFORMS may exclude the real one.
    mesh = make_mesh(devices=jax.local_devices()[:1])
    cpu = AbstractDevice("cpu", None, "cpu")
    named = AbstractMesh(mesh.axis_sizes, mesh.axis_names, mesh.axis_types, abstract_device=cpu)
    # A jitted function with options of the compiler cannot be traced within another one.
    plain = function.__wrapped__ if hasattr(function, "lower") else function  # type: ignore[attr-defined]
    with jax.set_mesh(mesh), use_abstract_mesh(named):
        whole = jax.make_jaxpr(plain)(*jax.tree.map(_unplaced, args))
        return _count(dce_jaxpr(whole.jaxpr, True)[0])


def _unplaced(leaf: Any) -> Any:
    """A shape without its sharding, whose mesh is not that of the counting."""
    is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_shape else leaf


def _count(jaxpr: Any) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lhs = equation.invars[0].aval.shape
        return int(2 * equation.outvars[0].aval.size * math.prod(lhs[axis] for axis in contracted))
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return int(2 * equation.outvars[0].aval.size * kernel.size // outputs)
    # The functions that a primitive calls are among its parameters, alone or in a tuple.
    leaves = jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr)
    bodies = [_count(leaf) for leaf in leaves if _is_jaxpr(leaf)]
    if name == "while" and any(bodies):
        raise ValueError("a while loop contains products and its number of iterations is unknown: use a scan")
    if name == "scan":
        return int(params["length"]) * sum(bodies)
    return max(bodies, default=0) if name == "cond" else sum(bodies)


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")
