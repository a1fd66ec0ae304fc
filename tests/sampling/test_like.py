"""A picture's file holds its settings, and --like draws it again; contact sheets and random seeds."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import write_lora, write_model
from uno_jax.families.uno.config import UnoPE
from uno_jax.sample import main, read_args
from uno_jax.sampling.like import read_settings

REPEATED = ["--steps", "2", "--ref-size", "32"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Three pictures of a list, drawn in one batch, a sheet of them, and all that they were drawn with."""
    folder = tmp_path_factory.mktemp("like")
    write_model(folder / "model")
    write_lora(folder / "lora", UnoPE("h", 0.5))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "ref.png")
    entries = [{"prompt": f"{name} ☃", "image_paths": ["ref.png"], "seed": 7} for name in ("a", "b", "c")]
    (folder / "list.json").write_text(json.dumps(entries))
    command = ["--model", str(folder / "model"), "--lora", f"{folder / 'lora'}:0.5", "--sheet"]
    main([*command, *REPEATED, "--jobs", str(folder / "list.json"), "--out", str(folder / "out")])
    return folder


@pytest.fixture
def copied(drawn, tmp_path, monkeypatch):
    """A copy of the pictures, whose weights must not be loaded."""
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    shutil.copytree(drawn / "out", tmp_path / "out")
    return tmp_path / "out" / "1_0.png"


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_picture_is_drawn_again_bit_for_bit(drawn, tmp_path):
    (drawn / "alone").mkdir()
    picture = shutil.copy(drawn / "out" / "1_0.png", drawn / "alone" / "p.png")  # without its JSON
    again = tmp_path / "again.png"
    main(["--like", str(picture), "--out", str(again)])
    np.testing.assert_array_equal(pixels(again), pixels(picture))
    record, kept = json.loads(again.with_suffix(".json").read_text()), read_settings(picture)
    assert record == kept == read_settings(again)
    assert (kept["prompt"], kept["batch"], kept["loras"][0]["strength"]) == ("b ☃", [1, 3], 0.5)
    other = tmp_path / "other.png"
    main(["--like", str(picture), "--seed", "8", "--lora", "none", "--out", str(other)])
    assert np.abs(pixels(other).astype(int) - pixels(picture)).max() > 5
    changed = {key for key in record if read_settings(other).get(key) != record[key]}
    assert changed == {"seed", "loras", "unope", "offset_scale"}


def test_a_reference_cache_is_kept_and_may_be_asked_for_again(drawn, tmp_path):
    picture = tmp_path / "cached.png"
    model = ["--model", str(drawn / "model"), "--lora", "none", "--reference-cache"]
    main([*model, *REPEATED, "--prompt", "a", "--ref", str(drawn / "ref.png"), "--out", str(picture)])
    for repeated in ([], ["--reference-cache"]):
        assert read_args(["--like", str(picture), *repeated]).reference_cache
    other = ["--lora", str(drawn / "lora")]
    assert not read_args(["--like", str(picture), *other]).reference_cache
    assert read_args(["--like", str(picture), *other, "--reference-cache"]).reference_cache


def test_a_sheet_shows_every_picture_beside_its_references(drawn):
    assert sorted(path.name for path in (drawn / "out").glob("*.png"))[-1] == "sheet.png"
    width, height = Image.open(drawn / "out" / "sheet.png").size
    assert width == 3 * (2 * 256 + 24) and height < 400


def told_by(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments), "--out", "nowhere.png"])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_what_has_changed_or_is_missing_is_named(copied, drawn, capsys):
    def record_of(**changes):
        """The picture with a changed record, from an earlier release: in the JSON beside it."""
        Image.open(copied).copy().save(copied)
        copied.with_suffix(".json").write_text(json.dumps(record | changes))
        return told_by(["--like", copied], capsys)

    record = read_settings(copied)
    ref, lora = record["refs"][0], record["loras"][0]
    assert f"{drawn / 'ref.png'} has changed since" in record_of(refs=[ref | {"sha256": "0"}])
    assert "was drawn with /gone.png, which is not there" in record_of(refs=[ref | {"path": "/gone.png"}])
    assert f"{drawn / 'lora'} has changed since" in record_of(loras=[lora | {"id": "0"}])
    assert f"{drawn / 'model'} has changed since" in record_of(model_id="0")
    assert "with the model /gone, which is not there: name it as --model" in record_of(model="/gone")
    assert "seed must be int, got 'x'" in record_of(seed="x")
    assert "--steps must be at most 1,000" in record_of(steps=10**9)
    assert "batch 3 of 3 cannot be" in record_of(batch=[3, 3])
    assert "drawn of a list's turns" in record_of(turns=["a", 0])


def test_other_pictures_are_refused(copied, drawn, capsys):
    plain = drawn / "ref.png"
    assert f"{plain} holds no settings: --like takes a .png" in told_by(["--like", plain], capsys)
    assert "none.png cannot be read: no such file" in told_by(["--like", drawn / "none.png"], capsys)
    both = ["--like", copied, "--jobs", drawn / "list.json"]
    assert "--like draws one picture again: leave out --jobs" in told_by(both, capsys)
    assert "--understand draws nothing: leave out --sheet" in told_by(
        ["--prompt", "a", "--understand", "--sheet"], capsys
    )


def test_a_random_seed_is_drawn_and_recorded(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("uno_jax.sampling.settings.secrets.randbelow", lambda most: most - 1)
    made = []
    monkeypatch.setattr("uno_jax.sample.draw_missing", lambda args, work: made.extend(work.outputs) or [])
    command = ["--model", str(drawn / "model"), "--prompt", "a", "--num-images", "2", "--seed", "random"]
    main([*command, "--out", str(tmp_path)])
    assert [output.record["seed"] for output in made] == [2**32 - 2, 2**32 - 1]
    assert re.fullmatch(r"\d+_0\.png", made[0].path.name)
