"""Floating point operations of a function, counted in its jaxpr: matrix products and convolutions, with loops
multiplied by their trips, which XLA's own cost analysis counts once.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_flops(function: Callable, *args: Any) -> int:
    """Of one call of `function` with (abstract) arguments; a product of m x k and k x n is 2 m k n."""
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    params = equation.params
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        case "conv_general_dilated":
            kernel = equation.invars[1].aval
            features = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            return 2 * equation.outvars[0].aval.size * kernel.size // features
        case "cond":
            return max(_of_jaxpr(branch.jaxpr) for branch in params["branches"])
    inner = (value.jaxpr if isinstance(value, ClosedJaxpr) else value for value in params.values())
    trips = params["length"] if equation.primitive.name == "scan" else 1
    return trips * sum(_of_jaxpr(jaxpr) for jaxpr in inner if isinstance(jaxpr, Jaxpr))
