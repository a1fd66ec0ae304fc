"""Captions: names are readable, and position and size are those in the picture."""

import numpy as np
import pytest

from uno_jax.toybox import SCENES, Composite, Placement, noun_phrase
from uno_jax.toybox.captions import caption, diptych_caption

IMAGE = np.zeros((1, 1, 3), np.uint8)


def placed(x: float, extent: float = 0.6) -> Placement:
    return Placement(x, 0.9, extent, 0.0, False, (0.0, 0.0))


def captions(names: list[str], *placements: Placement) -> set[str]:
    composite = Composite(IMAGE, "beach", placements, ())
    return {caption(np.random.default_rng(seed), names, composite) for seed in range(300)}


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("dog", "a dog"),
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("hourglass not done", "an hourglass"),
        ("e-mail", "an e-mail"),
        ("jeans", "jeans"),
        ("bus", "a bus"),
        ("dress", "a dress"),
        ("rhinoceros", "a rhinoceros"),
        ("nest with eggs", "a nest with eggs"),
        ("money with wings", "money with wings"),
        ("statue of liberty", "the statue of liberty"),
        ("flag: japan", "a flag of japan"),
        ("woman: medium skin tone, red hair", "a woman with medium skin tone and red hair"),
        ("badminton", "a badminton racket"),
    ],
)
def test_names_get_their_article(name, phrase):
    assert noun_phrase(name) == phrase


def test_an_adjective_decides_the_article():
    assert noun_phrase("owl", "small") == "a small owl"


def test_position_and_size_are_said_at_times_and_truly():
    said = captions(["dog"], placed(0.25, 0.45))
    assert "a small dog on the left, on a beach" in said
    assert "a dog on a beach" in said
    assert not any("right" in text or "big" in text for text in said)


def test_the_middle_has_no_side():
    assert not any("left" in text or "right" in text for text in captions(["dog"], placed(0.5)))


def test_two_subjects_stand_on_their_own_sides():
    said = captions(["dog", "owl"], placed(0.7, 0.4), placed(0.3, 0.4))
    assert "a dog on the right and an owl on the left, on a beach" in said
    assert all("dog" in text and "owl" in text for text in said)


def test_a_diptych_names_both_scenes_and_a_second_subject():
    same, scenes = "two side-by-side images of the same dog: left", ("brick wall", "wooden table")
    text = diptych_caption(np.random.default_rng(0), ["dog"], scenes)
    assert text == f"{same} in front of a brick wall, right on a wooden table"
    text = diptych_caption(np.random.default_rng(0), ["dog", "owl"], scenes)
    assert text == f"{same} in front of a brick wall, right with an owl on a wooden table"


def test_no_two_scenes_share_a_phrase():
    phrases = [phrase for scene in SCENES.values() for phrase in scene.phrases]
    assert len(set(phrases)) == len(phrases)
