"""The compositor on the device draws what the drawn composer draws, as often, and says so in its captions."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from uno_jax.toybox import SCENES, Subject, SubjectError, load_subjects, noun_phrase
from uno_jax.toybox.captions import noun
from uno_jax.toybox.device import (
    Bank,
    Pairs,
    Variety,
    World,
    draw_bank,
    make_atlas,
    make_diptychs,
    make_pairs,
    make_text_images,
    make_world,
    prompts,
)
from uno_jax.toybox.device.bank import Record
from uno_jax.toybox.device.composite import Backdrop, Shot, cut_background, cut_out, draw_backdrops, render
from uno_jax.toybox.device.place import Light, Placements, draw_light, draw_placements
from uno_jax.toybox.samples import SCENE_NAMES

pytestmark = pytest.mark.slow

composer = importlib.import_module("uno_jax.toybox.compose")  # in the package this name is the function
RENDER = jax.jit(render)
SIZE, BATCH = 64, 6
MANY = 4000  # placements whose statistics are compared


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return load_subjects(split="train")[::9]


@pytest.fixture(scope="module")
def world(subjects) -> World:
    return make_world(draw_bank(2, SIZE * 160 // 128), subjects, SIZE)


@pytest.fixture(scope="module")
def pairs(world) -> Pairs:
    """With two references."""
    return make_pairs(jax.random.key(0), world, BATCH, 2)


def test_a_batch_follows_from_its_key(world, pairs):
    same, other = (make_pairs(jax.random.key(seed), world, BATCH, 2) for seed in (0, 1))
    for first, second in zip(jax.tree.leaves(pairs), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(pairs.target, other.target)
    assert not np.array_equal(pairs.subjects, other.subjects)


def test_pairs_show_different_subjects_in_different_scenes(pairs):
    assert pairs.target.shape == (BATCH, SIZE, SIZE, 3) and pairs.target.dtype == np.uint8
    assert pairs.refs.shape == (BATCH, 2, SIZE, SIZE, 3)
    scenes = np.concatenate([pairs.scenes[:, None], pairs.ref_scenes], 1)
    for where, who in zip(scenes, np.asarray(pairs.subjects), strict=True):
        assert len(set(where.tolist())) == 3 and len(set(who.tolist())) == 2


def test_held_out_subjects_never_enter_an_atlas_for_training():
    train, val = load_subjects(split="train"), load_subjects(split="val")
    atlas = make_atlas(train, 32)
    assert atlas.split == "train" and atlas.names == tuple(subject.name for subject in train)
    assert not set(atlas.names) & {subject.name for subject in val}
    with pytest.raises(SubjectError, match=r"subjects of one split, got \['train', 'val'\]"):
        make_atlas([*train[:3], val[0]], 32)


def test_what_cannot_be_made_is_refused(world):
    with pytest.raises(ValueError, match="1 to 4 references"):
        make_pairs(jax.random.key(0), world, 1, 5)
    with pytest.raises(ValueError, match="alike 'picture' 1"):
        make_pairs(jax.random.key(0), world, 1, 2, "picture")
    with pytest.raises(SubjectError, match="2 different subjects wanted, but only 1 given"):
        make_pairs(jax.random.key(0), world.replace(atlas=make_atlas(load_subjects()[:1], SIZE)), 1, 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_subject_is_seen_as_by_pillow(world, seed):
    """Its map in perspective, with bilinear samples of premultiplied colours, laid on grey."""
    subject = jnp.asarray(3 * seed)
    scenes, alone = jnp.array([0]), jnp.array([True])
    draw = jax.jit(draw_placements)
    placements = draw(jax.random.key(seed), world.atlas, scenes, subject[None, None], alone)
    its = jax.tree.map(lambda values: values[0, 0], placements)
    cutout = jax.jit(cut_out)(world, subject, its)
    picture, extents = picture_in(world, 3 * seed, float(its.extent) * SIZE)
    # From fractions of the subject to texels of its cell, which has a border of one.
    to_cell = np.array([(extents[0], 0, 1), (0, extents[1], 1), (0, 0, 1)]) @ np.asarray(cutout.to_subject)
    coefficients = (to_cell / to_cell[2, 2]).ravel()[:8].tolist()
    how = Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    seen = picture.transform((SIZE, SIZE), *how).convert("RGBA")
    wanted = Image.alpha_composite(Image.new("RGBA", (SIZE, SIZE), "gray"), seen).convert("RGB")
    rgba = np.moveaxis(np.asarray(cutout.rgba), 0, -1)
    got = 128 * (1 - rgba[..., 3:]) + 255 * rgba[..., :3]
    assert np.abs(got - np.asarray(wanted)).max() < 3
    assert rgba[..., 3].mean() > 0.05


def picture_in(world: World, subject: int, pixels: float) -> tuple[Image.Image, tuple[int, ...]]:
    """The smallest of a subject's pictures in the atlas that has a texel a pixel: its cell, its extents."""
    atlas = world.atlas
    level = min(int(np.searchsorted(atlas.sides, pixels)), len(atlas.sides) - 1)
    cells = [side + 2 for side in atlas.sides]
    start = sum(len(atlas.names) * cell**2 for cell in cells[:level]) + subject * cells[level] ** 2
    texels = np.asarray(atlas.texels)[start : start + cells[level] ** 2].view(np.uint8)
    picture = Image.frombytes("RGBa", (cells[level], cells[level]), texels.tobytes())
    return picture, tuple(np.asarray(atlas.extents)[subject, level].tolist())


@pytest.fixture(scope="module")
def grey_world(subjects) -> World:
    """Nothing behind the subjects, in pictures of 128 pixels."""
    side = 160
    pictures = np.full((len(SCENES), 1, side, side, 3), 128, np.uint8)
    return make_world(Bank(Record(tuple(SCENES), 1, side, 0), pictures), subjects, 128)


@pytest.mark.parametrize("scene", ["grass", "carpet", "space"])
def test_light_and_shadow_fall_as_in_the_drawn_world(subjects, grey_world, monkeypatch, scene):
    """They differ along edges alone: the drawn composer sets subjects on whole pixels."""
    size = grey_world.size
    grey = np.full((size, size, 3), 0.5, np.float32)
    monkeypatch.setitem(SCENES, scene, dataclasses.replace(SCENES[scene], draw=lambda rng, size: grey.copy()))
    light = composer.Light(0.8, 0.25, 1.05, np.array([1.0, 0.9, 0.95], np.float32))
    monkeypatch.setattr(composer, "_light", lambda rng, scene: light)
    for seed in range(5):
        drawn = composer.compose(np.random.default_rng(seed), [subjects[7 * seed]], scene, size)
        left, _, right, bottom = drawn.boxes[0]
        its = dataclasses.replace(drawn.placements[0], x=(left + right) / 2 / size, feet=bottom / size)
        (picture,) = np.asarray(RENDER(grey_world, shot(scene, 7 * seed, its, light)).image)
        apart = picture.astype(float) - drawn.image
        assert np.abs(apart).mean() < 2 and np.percentile(np.abs(apart), 90) < 6
        assert abs(apart.mean()) < 0.5
        assert np.abs(drawn.image - 128.0).mean() > 3


def shot(scene: str, subject: int, its: composer.Placement, light: composer.Light) -> Shot:
    """A batch of one picture with one subject, before the first drawing of the scene."""
    where = [jnp.array([SCENE_NAMES.index(scene)]), jnp.array([0]), jnp.ones((1, 2))]
    backdrop = Backdrop(*where, jnp.array([False]), jnp.array([1.0]))
    standing = Placements(*(jnp.asarray(value)[None, None] for value in dataclasses.astuple(its)))
    lit = Light(*(jnp.asarray(value)[None] for value in dataclasses.astuple(light)))
    return Shot(backdrop, jnp.array([[subject]]), jnp.array([[True]]), standing, lit)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_subjects_stand_where_they_stand_in_the_drawn_world(subjects, world, count):
    rng, many = np.random.default_rng(0), len(subjects) - 1
    scenes, shown = rng.integers(len(SCENES), size=MANY), rng.integers(many, size=(MANY, count))
    shown[:, 1:] = many  # not the first
    drawn = [
        composer.place(rng, [subjects[i] for i in who], SCENES[SCENE_NAMES[where]])
        for who, where in zip(shown, scenes, strict=True)
    ]
    alone = jnp.full(MANY, count == 1)
    draw = jax.jit(draw_placements)
    made = draw(jax.random.key(0), world.atlas, jnp.asarray(scenes), jnp.asarray(shown), alone)
    for name in ("x", "feet", "extent", "degrees", "flip"):
        wanted = np.array([[getattr(its, name) for its in row] for row in drawn], float)
        for slot in range(count):
            found = ks_2samp(wanted[:, slot], np.asarray(getattr(made, name), float)[:, slot])
            assert found.pvalue > 1e-3, (name, slot, found)
    if count > 1:  # each in a slot of its own
        assert (np.diff(np.sort(made.x, axis=1), axis=1) > (0.25 if count == 2 else 0.02)).all()
    for axis in (0, 1):
        wanted = np.array([row[0].tilt[axis] for row in drawn])
        assert ks_2samp(wanted, np.asarray(made.tilt)[:, 0, axis]).pvalue > 1e-3


def test_light_falls_as_often_from_each_side():
    scenes = np.arange(MANY) % len(SCENES)
    rng = np.random.default_rng(0)
    drawn = [composer._light(rng, SCENES[SCENE_NAMES[scene]]) for scene in scenes]
    made = draw_light(jax.random.key(0), jnp.asarray(scenes))
    for name in ("side", "contrast", "brightness"):
        wanted = [getattr(light, name) for light in drawn]
        assert ks_2samp(wanted, np.asarray(getattr(made, name))).pvalue > 1e-3, name
    for channel in range(3):
        wanted = [light.tint[channel] for light in drawn]
        assert ks_2samp(wanted, np.asarray(made.tint)[:, channel]).pvalue > 1e-3


def test_a_background_is_cut_from_the_bank(world):
    scenes = jnp.arange(len(SCENES))
    backdrops = draw_backdrops(jax.random.key(0), world, scenes)
    cuts = jax.jit(jax.vmap(cut_background, (None, 0)))(world, backdrops)
    left_over = world.backgrounds.shape[-1] - SIZE
    bank = np.asarray(world.backgrounds)
    for index, cut in enumerate(np.asarray(cuts)):
        its = jax.tree.map(lambda values, index=index: np.asarray(values[index]), backdrops)
        left, top = np.round(its.cut * left_over).astype(int)
        window = bank[its.scene, its.drawing, :, top : top + SIZE, left : left + SIZE]
        wanted = window[..., ::-1] if its.mirrored else window
        np.testing.assert_allclose(cut, wanted * its.exposure / 255, atol=1e-6)


def test_a_hidden_second_subject_leaves_no_trace(world):
    """Text-image samples have room for two."""
    some = make_text_images(jax.random.key(3), world, BATCH, two=0.0)
    others = make_text_images(jax.random.key(3), world, BATCH, two=1.0)
    assert not some.two.any() and others.two.all()
    lines = prompts(world.atlas.names, some, 0)
    for line, (first, second) in zip(lines, np.asarray(some.subjects), strict=True):
        assert noun(world.atlas.names[first]) in line and noun(world.atlas.names[second]) not in line
    hidden = jax.tree.map(np.asarray, some)
    two_in_one = world.replace(atlas=world.atlas.replace(texels=world.atlas.texels.at[:].set(0)))
    empty = make_text_images(jax.random.key(3), two_in_one, BATCH, two=0.0)
    seen = (np.abs(hidden.target.astype(int) - empty.target) > 24).any(-1)
    for mask, its in zip(seen, hidden.placements.x[:, 0], strict=True):
        assert abs(np.nonzero(mask)[1].mean() / SIZE - its) < 0.15


def test_captions_name_what_is_drawn(world, pairs):
    lines = prompts(world.atlas.names, pairs, 5)
    assert lines == prompts(world.atlas.names, pairs, 5) != prompts(world.atlas.names, pairs, 6)
    for index, line in enumerate(lines):
        scene = SCENES[SCENE_NAMES[int(pairs.scenes[index])]]
        assert any(phrase in line for phrase in scene.phrases)
        names = [world.atlas.names[int(which)] for which in pairs.subjects[index]]
        assert all(noun_phrase(name) in line for name in names)
        if "on the left" in line:
            first = min((0, 1), key=lambda slot: line.index(noun_phrase(names[slot]) + " on the"))
            on_left = f"{noun_phrase(names[first])} on the left" in line
            xs = pairs.placements.x[index]
            assert (xs[first] < xs[1 - first]) == on_left


@pytest.mark.parametrize("freedom", [0.0, 0.5, 1.0])
def test_references_stand_as_freely_as_they_should(world, pairs, freedom):
    mixed = make_pairs(jax.random.key(0), world, BATCH, 2, variety=Variety(freedom))
    for name in ("x", "feet", "extent", "degrees"):
        start, end, at = (
            np.asarray(getattr(each, name))
            for each in (pairs.placements, pairs.ref_placements, mixed.ref_placements)
        )
        if name != "feet" or freedom != 0.5:  # it is raised to keep a larger subject in the frame
            tolerance = 0.06 if name == "x" and freedom == 0.5 else 1e-5
            np.testing.assert_allclose(at, start + freedom * (end - start), atol=tolerance)
    np.testing.assert_array_equal(mixed.target, pairs.target)


def test_pairs_that_are_alike(world):
    place = make_pairs(jax.random.key(0), world, BATCH, alike="place")
    for one, other in zip(place.placements, place.ref_placements, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert (place.scenes != place.ref_scenes[:, 0]).all()
    picture = make_pairs(jax.random.key(0), world, BATCH, alike="picture")
    np.testing.assert_array_equal(picture.target, picture.refs[:, 0])
    assert (picture.scenes == picture.ref_scenes[:, 0]).all()


def test_diptychs(world):
    wide = make_diptychs(jax.random.key(0), world, 24, two=0.5)
    assert wide.target.shape == (24, SIZE, 2 * SIZE, 3) and 0 < wide.two.sum() < 24
    assert (wide.scenes[:, 0] != wide.scenes[:, 1]).all()
    for line, both, (first, second) in zip(
        prompts(world.atlas.names, wide, 0), wide.two, np.asarray(wide.subjects), strict=True
    ):
        assert line.startswith(f"two side-by-side images of the same {noun(world.atlas.names[first])}: left")
        assert (f"with {noun_phrase(world.atlas.names[second])} " in line) == bool(both)
    twice = make_diptychs(jax.random.key(0), world, 4, alike="picture")
    np.testing.assert_array_equal(twice.target[:, :, :SIZE], twice.target[:, :, SIZE:])
    assert not twice.two.any() and (twice.scenes[:, 0] == twice.scenes[:, 1]).all()
