import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.support.bounded_jit import bounded_jit, compile_ahead, is_compiled


@pytest.fixture
def counted():
    """A function of at most two programs, and the shapes that it was traced with."""
    traced = []

    def double(x):
        traced.append(jnp.shape(x))
        return 2 * x

    return bounded_jit(double, kept=2), traced


def test_shapes_in_use_are_not_compiled_again(counted):
    double, traced = counted
    for size in (1, 2, 1, 3, 1, 4, 1):  # 1 stays, since each of the others was used before it
        np.testing.assert_array_equal(double(np.ones(size)), np.full(size, 2.0))
    assert traced == [(1,), (2,), (3,), (4,)]


def test_the_shape_unused_for_longest_is_let_go(counted):
    double, traced = counted
    for size in (1, 2, 3, 1):
        double(np.ones(size))
    assert traced == [(1,), (2,), (3,), (1,)]


def test_a_program_that_is_let_go_is_freed():
    """A constant that a program was traced with lives as long as the program."""
    made = []

    def add(x):
        with jax.ensure_compile_time_eval():
            constant = jnp.arange(x.shape[0])
        made.append(weakref.ref(constant))
        return x + constant

    function = bounded_jit(add, kept=1)
    function(np.ones(5))
    gc.collect()
    assert made[0]() is not None
    function(np.ones(6))
    gc.collect()
    assert made[0]() is None


def test_it_is_inlined_in_a_jitted_function(counted):
    double, traced = counted
    jaxpr = jax.make_jaxpr(jax.jit(lambda x: double(x) + 1))(np.ones(3))
    assert traced == [(3,)] and str(jaxpr).count("jit") == 1
    assert jax.eval_shape(double, jax.ShapeDtypeStruct((7,), "float32")).shape == (7,)


def test_another_number_is_not_another_program(counted):
    double, traced = counted
    assert [float(double(x)) for x in (1.5, 2.5)] == [3.0, 5.0] and len(traced) == 1


def test_options_are_those_of_jit():
    ones = bounded_jit(lambda like, shape: jnp.ones(shape) + like, static_argnames="shape")
    assert ones(np.float32(1), shape=(2, 3)).shape == (2, 3)
    assert ones(np.float32(1), shape=(4,)).shape == (4,)


def test_what_is_compiled_ahead_is_not_compiled_again(counted):
    double, traced = counted
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **about: compiled.append(about.get("fun_name")) if "backend" in event else None
    )
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    compile_ahead(double, jax.ShapeDtypeStruct((3,), np.float32, sharding=place))
    given = jax.device_put(np.ones(3, np.float32), place)
    np.testing.assert_array_equal(double(given), np.full(3, 2.0))
    assert traced == [(3,)] and is_compiled(double, given)
    assert len([name for name in compiled if name and "double" in name]) == 1


def test_what_fails_ahead_fails_again_where_it_is_called():
    def refuse(x):
        raise ValueError("no such picture")

    function = bounded_jit(refuse)
    compile_ahead(function, np.ones(3))
    with pytest.raises(ValueError, match="no such picture"):
        function(np.ones(3))
