"""What the page's form makes, without the page."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.lists import write_picture
from tests.tiny_model import write_lora, write_model
from uno_jax.families.uno.config import UnoPE
from uno_jax.sample import main as sample
from uno_jax.support.images import ImageError
from uno_jax.web.history import read_history
from uno_jax.web.studio import Cancelled, Form, Studio


def tell_nobody(progress):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    write_model(folder / "model")
    write_lora(folder / "style", UnoPE())
    write_picture(folder / "upload.png", 1)
    return folder


@pytest.fixture(scope="module")
def studio(place):
    from uno_jax.web.__main__ import WebArgs

    (place / "out").mkdir()
    args = WebArgs(model=str(place / "model"), lora=(f"{place}/style:0.5",))
    return Studio(args, place / "out")


def form(place, **changes):
    given = {"prompt": "a cup", "refs": [place / "upload.png"], "width": 64, "height": 64}
    return Form(**{**given, "options": {"steps": 2}, "strengths": [0.5]} | changes)


def test_pictures_are_those_of_uno_sample(studio, place):
    made = studio.draw(form(place, num_images=2, seed=7), "me", tell_nobody)
    assert [path.name for path in made] == ["00000.png", "00001.png"]
    record = json.loads(made[1].with_suffix(".json").read_text())
    assert record["seed"] == 8 and record["loras"][0]["strength"] == 0.5
    (kept,) = record["refs"]
    words = ["--model", studio.args.model, "--lora", studio.args.lora[0], "--prompt", "a cup"]
    words += ["--ref", kept["path"], "--width", "64", "--height", "64", "--steps", "2", "--seed", "7"]
    sample([*words, "--num-images", "2", "--out", str(place / "again")])
    for path, name in zip(made, ("0_0.png", "0_1.png"), strict=True):
        np.testing.assert_array_equal(Image.open(path), Image.open(place / "again" / name))


def test_the_history_is_newest_first(studio, place):
    studio.draw(form(place, prompt="a dog", strengths=[0]), "me", tell_nobody)
    (studio.folder / "00001.json").write_text("{")
    found = read_history(studio.folder)
    assert [each.picture.name for each in found] == ["00002.png", "00000.png"]
    assert found[0].caption == "a dog (seed 3407)" and found[0].record["lora"] is None


def test_only_who_began_a_drawing_cancels_it(studio, place):
    steps, begun = [], threading.Event()

    def watch(progress):
        steps.append(progress)
        if progress.steps:
            assert not studio.cancel("another")
            assert studio.cancel("me") and not begun.is_set()

    with pytest.raises(Cancelled):
        studio.draw(form(place, options={"steps": 50}), "me", watch)
    assert len([each for each in steps if each.steps]) == 1
    assert not studio.cancel("me")
    assert len(read_history(studio.folder)) == 2


def test_a_drawing_that_waits_can_be_cancelled(studio, place):
    phases = []

    def watch(progress):
        phases.append(progress.phase)
        studio.cancel("second")

    with studio._drawing, pytest.raises(Cancelled):
        studio.draw(form(place), "second", watch)
    assert phases == ["waiting"] and not studio.cancel("second")


def test_a_pictures_settings_fill_the_form(studio, place, monkeypatch):
    from uno_jax.web import handlers

    chosen = read_history(studio.folder)[-1]
    warned = []
    monkeypatch.setattr(handlers.gr, "Warning", warned.append)
    fill = handlers.filling(studio, dict.fromkeys(("prompt", "seed", "refs", "lora 0", "steps")))
    (kept,) = chosen.record["refs"]
    assert fill(chosen) == ["a cup", 7, [kept["path"]], 0.5, 2] and not warned
    other = chosen.record | {"loras": [{"path": "/x/other", "strength": 2}], "refs": [{"path": "/x/a.png"}]}
    assert fill(chosen._replace(record=other)) == ["a cup", 7, [], 0, 2]
    assert [line.split(",")[0] for line in warned] == [
        "It was drawn with the LoRA other",
        "Its reference a.png is not there any more.",
    ]


def test_guidance_of_a_picture_fills_the_form(studio, monkeypatch):
    from uno_jax.web import handlers

    warned = []
    monkeypatch.setattr(handlers.gr, "Warning", warned.append)
    chosen = read_history(studio.folder)[-1]
    both = chosen._replace(record=chosen.record | {"true_cfg": 3.0, "image_cfg": 5.0})
    alone = chosen._replace(record=chosen.record | {"true_cfg": 3.0})
    two = handlers.filling(studio, dict.fromkeys(("steps", "true_cfg", "image_cfg")))
    assert two(both) == [2, 3.0, 5.0] and two(alone) == [2, 3.0, 3.0] and not warned
    one = handlers.filling(studio, dict.fromkeys(("steps", "true_cfg")))
    assert one(both) == [2, 3.0]
    assert warned == ["It was drawn with another image_cfg, which cannot be set on this page."]


@pytest.mark.slow
def test_options_of_the_command_line_that_the_form_lacks_are_used(studio, place):
    given = replace(studio.args, true_cfg=2.0, cfg_interval=(0.5, 1.0))
    (made,) = Studio(given, studio.folder).draw(form(place, strengths=[0]), "me", tell_nobody)
    record = json.loads(made.with_suffix(".json").read_text())
    assert record["cfg_interval"] == [0.5, 1] and record["true_cfg"] == record["steps"] == 2


def test_a_slider_holds_its_value():
    from uno_jax.web.page import make_slider

    slider = make_slider(-2, 2, 5, step=0.05, label="strength")
    assert (slider.minimum, slider.maximum, slider.value) == (-2, 5, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"width": 30}, "multiple"),
        ({"num_images": 17}, "must be 1 to 16, got 17"),
        ({"options": {"steps": 0}}, "steps must be at least 1"),
        ({"options": {"points": 5}}, "does not take points"),
    ],
)
def test_what_cannot_be_drawn_is_refused(studio, place, changes, message):
    with pytest.raises(ValueError, match=message):
        studio.draw(form(place, **changes), "me", tell_nobody)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_bounds_is_refused(seed):
    from uno_jax.web import handlers

    numbers = {"width": 64, "height": 64, "seed": seed, "num_images": 1}
    with pytest.raises(ValueError, match=f"the seed must be from 0 to .*, got {seed}"):
        handlers.read_form({"prompt": "a dog", "refs": None, "random": False, **numbers})


def test_uploads_are_pictures(studio, place):
    (place / "page.png").write_text("<html>")
    with pytest.raises(ImageError, match=r"page\.png"):
        studio.draw(form(place, refs=[place / "page.png"]), "me", tell_nobody)
    with pytest.raises(ValueError, match="5 references, at most 4"):
        studio.draw(form(place, refs=[place / "upload.png"] * 5), "me", tell_nobody)
