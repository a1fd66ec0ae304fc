"""Guidance, against formulas written out for one token."""

import jax.numpy as jnp
import numpy as np
import pytest

from uno_jax.families.scone.guidance import Guidance, guided, schedule, segments

V = {
    "cond": jnp.array([[[3.0, 4.0], [0.0, 1.0]]]),
    "text": jnp.array([[[1.0, 0.0], [0.0, 2.0]]]),
    "image": jnp.array([[[0.0, 2.0], [1.0, 1.0]]]),
}


def test_text_then_image():
    """The renorm by token comes before the images' step: of the first token 5 / |(5, 8)|."""
    first = np.array([5.0, 8.0]) * 5 / np.hypot(5, 8)
    second = np.array([0.0, 0.0])  # 2 + 2 (1 - 2)
    text = np.stack([first, second])
    image = np.array([[0.0, 2.0], [1.0, 1.0]])
    expected = image + 3 * (text - image)
    assert guided(V, Guidance(text=2, image=3)) == pytest.approx(expected[None], abs=1e-5)


@pytest.mark.parametrize(("renorm", "norms"), [("channel", [5.0, 1.0]), ("global", None), ("none", None)])
def test_renorm_after_the_image(renorm, norms):
    v = guided(V, Guidance(text=2, image=3, renorm=renorm))
    plain = guided(V, Guidance(text=2, image=3, renorm="none"))
    assert jnp.cross(v[0], plain[0]) == pytest.approx(np.zeros(2), abs=1e-4)  # the direction stays
    if norms:
        assert (jnp.linalg.norm(v[0], axis=-1) <= jnp.array(norms) + 1e-5).all()
    if renorm == "global":
        assert jnp.linalg.norm(v) == pytest.approx(np.sqrt(26), abs=1e-4)


def test_image_guidance_alone():
    velocities = {name: V[name] for name in ("cond", "image")}
    expected = V["image"] + 3 * (V["cond"] - V["image"])
    assert guided(velocities, Guidance(text=1, image=3)) == pytest.approx(np.array(expected), abs=1e-5)
    assert Guidance(text=1, image=3).branches == ("cond", "image")


def test_schedule_has_one_point_more_than_steps():
    times = schedule(50, 3.0)
    assert len(times) == 50 and times[0] == 1 and times[-1] == 0
    t = np.linspace(1, 0, 50)
    assert times == pytest.approx(3 * t / (1 + 2 * t), abs=1e-6)


def test_steps_are_grouped_by_what_they_need():
    """The lower end of the interval is outside, the upper one inside."""
    times = np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    assert segments(times, Guidance(interval=(0.5, 1.0))) == ((2, True), (2, False))
    assert segments(times, Guidance(interval=(0.0, 0.9))) == ((1, False), (3, True))
    assert segments(times, Guidance(text=1, image=1)) == ((4, False),)
