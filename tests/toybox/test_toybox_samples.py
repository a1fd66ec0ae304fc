"""Composites and samples: subjects are where their placement says, and samples match their labels."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from uno_jax.toybox import (
    SCENES,
    Subject,
    SubjectError,
    compose,
    diptych,
    load_subjects,
    pair,
    samples,
    text_image,
)
from uno_jax.toybox.compose import Composite


@pytest.fixture(scope="module")
def val() -> list[Subject]:
    return load_subjects(split="val")


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def plain(name: str, colour: tuple[int, int, int], size: tuple[int, int] = (96, 96)) -> Subject:
    return Subject(name, "Objects", "train", (Image.new("RGBa", size, (*colour, 255)),))


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First and last column, first and last row of the pixels that are set."""
    (columns,), (rows,) = np.nonzero(mask.any(0)), np.nonzero(mask.any(1))
    return int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])


@pytest.mark.parametrize("scene", ["studio", "space", "carpet"])
@pytest.mark.parametrize("seed", range(4))
def test_a_subject_lies_where_its_placement_says(scene, seed):
    composite = compose(rng(seed), [plain("box", (255, 0, 255))], scene, 128)
    (placement,) = composite.placements
    red, green, blue = np.moveaxis(composite.image.astype(int), 2, 0)
    left, right, top, bottom = extent((red > green + 110) & (blue > green + 110))
    assert (left + right + 1) / 2 == pytest.approx(placement.x * 128, abs=3)
    assert bottom + 1 == pytest.approx(placement.feet * 128, abs=3)
    assert 0.35 * 128 < bottom + 1 - top < 128
    assert 0.4 < placement.extent < 0.76


@pytest.mark.parametrize("seed", range(8))
def test_two_subjects_hardly_overlap(seed):
    """Each subject appears nearly as large as it would alone."""
    subjects = [plain("magenta box", (255, 0, 255)), plain("green box", (0, 255, 0))]
    composite = compose(rng(seed), subjects, "studio", 128)
    red, green, blue = np.moveaxis(composite.image.astype(int), 2, 0)
    seen = (
        ((red > green + 110) & (blue > green + 110)).sum(),
        ((green > red + 110) & (green > blue + 110)).sum(),
    )
    for pixels, placement in zip(seen, composite.placements, strict=True):
        assert pixels > 0.75 * (placement.extent * 128) ** 2
    first, second = composite.placements
    assert abs(first.x - second.x) > 0.3


def test_a_mirrored_subject_is_not_called_left(val):
    left = [subject for subject in val if subject.name == "magnifying glass tilted left"]
    assert not any(compose(rng(seed), left, "studio", 32).placements[0].flip for seed in range(12))


def test_five_subjects_or_an_unknown_scene_are_refused(val):
    with pytest.raises(ValueError, match="one to four subjects, got 5"):
        compose(rng(0), val[:5], "studio", 64)
    with pytest.raises(KeyError, match="moon"):
        compose(rng(0), val[:1], "moon", 64)


def test_a_shadow_darkens_the_ground_but_not_the_sky():
    subject = plain("white box", (255, 255, 255))
    for scene, darker in (("studio", True), ("carpet", True), ("space", False)):
        unshaded = dataclasses.replace(SCENES[scene], shadow="none")
        with_shadow = compose(rng(5), [subject], scene, 64).image.astype(int)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SCENES, scene, unshaded)
            without = compose(rng(5), [subject], scene, 64)
        assert (with_shadow.sum() < without.image.astype(int).sum() - 1000) == darker


@pytest.mark.parametrize("size", [(96, 96), (96, 1), (1, 96)])
def test_faint_and_thin_subjects_are_composed(size):
    faint = Subject("film", "Objects", "train", (Image.new("RGBa", size, (20, 20, 20, 20)),))
    for seed in range(4):
        composite = compose(rng(seed), [faint], "studio", 64)
        assert 0 < composite.placements[0].feet < 1


def test_samples_depend_on_the_generator_alone(val):
    for make in (
        lambda r: pair(r, val, 64, 2),
        lambda r: diptych(r, val, 64),
        lambda r: text_image(r, val, 64),
    ):
        one, same, other = make(rng(1, 2)), make(rng(1, 2)), make(rng(1, 3))
        assert one.prompt == same.prompt
        np.testing.assert_array_equal(one.target, same.target)
        assert one.prompt != other.prompt


def test_a_prompt_is_the_same_at_any_size(val):
    assert pair(rng(4), val, 32).prompt == pair(rng(4), val, 96).prompt


@pytest.mark.parametrize("references", [1, 2])
def test_a_pair_shows_each_subject_in_scenes_of_their_own(val, references):
    for seed in range(6):
        sample = pair(rng(seed), val, 48, references)
        assert sample.target.shape == (48, 48, 3)
        assert [reference.shape for reference in sample.references] == [(48, 48, 3)] * references
        assert len(set(sample.subjects)) == references
        assert len({*sample.scenes, *sample.reference_scenes}) == 1 + references


def test_a_diptych_is_two_different_scenes_side_by_side(val):
    sample = diptych(rng(0), val, 48)
    assert sample.target.shape == (48, 96, 3)
    assert sample.scenes[0] != sample.scenes[1]
    assert sample.references == ()
    assert {len(diptych(rng(seed), val, 32).subjects) for seed in range(20)} == {1, 2}


@pytest.fixture
def composites(monkeypatch) -> list[Composite]:
    """The composites that samples are made of, in order."""
    made: list[Composite] = []
    monkeypatch.setattr(samples, "compose", lambda *args: made.append(compose(*args)) or made[-1])
    return made


@pytest.mark.parametrize("references", [1, 2])
def test_still_references_stand_as_in_the_target(val, composites, references):
    sample = pair(rng(1), val, 48, references, alike="place")
    target, *alone = composites
    assert target.placements == tuple(each.placements[0] for each in alone)
    assert len({*sample.scenes, *sample.reference_scenes}) == 1 + references


@pytest.mark.parametrize("seed", range(4))
def test_a_cropped_reference_is_the_subject_as_in_the_target(seed):
    """Its longer side fills the reference; the scene is the target's."""
    subjects = [plain("magenta box", (255, 0, 255)), plain("green box", (0, 255, 0), (96, 40))]
    sample = pair(rng(seed), subjects, 128, 2, crop_second=True)
    assert sample.reference_scenes[1] == sample.scenes[0]
    red, green, blue = np.moveaxis(sample.references[1].astype(int), 2, 0)
    of = {"magenta box": np.minimum(red, blue) - green, "green box": green - np.maximum(red, blue)}
    left, right, top, bottom = extent(of[sample.subjects[1]] > 60)
    assert max(right - left, bottom - top) > 110


@pytest.mark.parametrize("two", [0.0, 1.0])
def test_both_halves_of_a_still_diptych_show_the_subject_alike(val, composites, two):
    diptych(rng(1), val, 48, two, alike="place")
    left, right = composites
    assert left.placements == right.placements[:1]
    assert len(right.placements) == 1 + two


def test_a_picture_can_be_its_own_reference(val):
    one, wide = pair(rng(1), val, 32, alike="picture"), diptych(rng(1), val, 32, alike="picture")
    np.testing.assert_array_equal(one.target, one.references[0])
    np.testing.assert_array_equal(wide.target[:, :32], wide.target[:, 32:])
    assert one.scenes == one.reference_scenes and wide.scenes[0] == wide.scenes[1]
    assert len(one.subjects) == len(wide.subjects) == 1
    with pytest.raises(ValueError, match="needs 1 reference"):
        pair(rng(1), val, 32, 2, alike="picture")


def test_text_images_show_one_or_two_subjects(val):
    assert {len(text_image(rng(seed), val, 32).subjects) for seed in range(20)} == {1, 2}


def test_only_the_given_subjects_appear(val):
    names = {name for seed in range(20) for name in pair(rng(seed), val[:3], 32, 2).subjects}
    assert names == {subject.name for subject in val[:3]}


def test_too_few_subjects(val):
    with pytest.raises(SubjectError, match="2 different subjects needed, but only 1 given"):
        pair(rng(0), val[:1], 32, 2)
    with pytest.raises(ValueError, match="one to four subjects, got 5"):
        pair(rng(0), val, 32, 5)
