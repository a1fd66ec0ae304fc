"""Sampling with a random tiny model: what a picture depends on and what not, compilations, job lists."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import RANK, TINY, make_lora, write_lora, write_model
from uno_jax.families import latents
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.uno import sampling as uno_sampling
from uno_jax.families.uno.config import PRESETS, UnoPE
from uno_jax.families.uno.lora import LoraInfo
from uno_jax.families.uno.settings import make_settings, reference_side
from uno_jax.sample import main
from uno_jax.sampling.generate import batches, generate
from uno_jax.sampling.results import claim_number
from uno_jax.support import atomic
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.images import read_image
from uno_jax.weights.load import load_model
from uno_jax.weights.lora_files import save_tensors

PHOTOS = Path(__file__).parents[1] / "assets" / "photos"
PROMPT = "a cat and a cup of coffee on the moon"
CONVENTION = UnoPE("h", 2.0)
# Two shapes of references in every test: each new combination is compiled anew.
SMALL = {"steps": 2, "ref_size": 48}
SMALL_ARGS = ["--steps", "2", "--ref-size", "48"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_model(folder / "model")
    write_lora(folder / "lora", CONVENTION)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder / "model")


@pytest.fixture(scope="module")
def pair():
    cat, coffee = read_image(PHOTOS / "chelsea.jpg"), read_image(PHOTOS / "coffee.jpg")
    return [cat.crop((0, 0, 300, 300)), coffee]


def difference(left: Image.Image, right: Image.Image) -> int:
    assert left.size == right.size
    return int(np.abs(np.asarray(left, int) - np.asarray(right, int)).max())


@pytest.mark.slow
def test_a_picture_depends_on_its_seed_alone_and_not_on_its_batch(model, pair):
    for step in STEPS:
        step.programs.clear()  # at most a few are kept, so that another test's would hide new ones
    both = generate(model, [PROMPT], [pair], num_images=2, seed=5, **SMALL)
    compiled = compilations()
    (again,) = generate(model, [PROMPT], [pair], num_images=1, seed=6, **SMALL)
    assert compilations() > compiled
    compiled = compilations()
    (first,) = generate(model, [PROMPT], [pair], num_images=1, seed=5, **SMALL)
    repeated = generate(model, [PROMPT], [pair], num_images=2, seed=5, **SMALL)
    assert compilations() == compiled, "a shape was compiled twice"
    assert both[0].size == (64, 64) and both[0].mode == "RGB"
    assert [difference(*two) for two in zip(both, repeated, strict=True)] == [0, 0]
    # Matrix products of another batch size may add in another order: one level of 255.
    assert difference(both[0], first) <= 1 and difference(both[1], again) <= 1
    assert difference(both[0], both[1]) > 20


STEPS = (
    *(uno_sampling.encode_text, uno_sampling.denoise_latent),
    *(latents.encode_image, latents.initial_noise, latents.decode_image),
)


def compilations() -> int:
    """How many programs the jitted steps hold, over all shapes."""
    programs = [each for step in STEPS for each in step.programs.values()]
    return sum(program._cache_size() for program in programs)


def test_noise_is_each_seeds_own():
    cells = (4, 6, 16)
    together = latents.initial_noise(np.array([3407, 3408], np.uint32), cells)
    alone = jax.random.normal(jax.random.key(3408), cells)
    assert np.array_equal(together[1], alone) and not np.array_equal(together[0], alone)


@pytest.mark.slow
def test_references_matter_with_their_order_and_their_size(model, pair):
    plain, ordered, swapped = (
        generate(model, [PROMPT], [refs], **SMALL)[0] for refs in ([], pair, pair[::-1])
    )
    assert min(difference(plain, ordered), difference(ordered, swapped)) > 5


def test_prompts_of_different_shapes_come_back_in_order(model, pair):
    pictures = generate(model, ["a dog", PROMPT, "a dog"], [[], pair, []], batch_size=1, **SMALL)
    assert difference(pictures[0], pictures[2]) == 0 and difference(pictures[0], pictures[1]) > 5


@pytest.mark.slow
def test_a_merged_lora_is_its_side_path_and_brings_its_convention(folder, model, pair):
    merged = load_model(folder / "model", folder / "lora")
    assert merged.unope == CONVENTION and model.unope is None
    base, with_merged = (generate(m, [PROMPT], [pair], unope=CONVENTION, **SMALL)[0] for m in (model, merged))
    (side,) = generate(model, [PROMPT], [pair], unope=CONVENTION, lora=make_lora(), **SMALL)
    assert difference(with_merged, side) <= 1 and difference(with_merged, base) > 5
    save_tensors(folder / "lora.safetensors", LoraInfo(TINY.mmdit, RANK, CONVENTION), make_lora())
    from_file = load_model(folder / "model", folder / "lora.safetensors")
    assert difference(with_merged, generate(from_file, [PROMPT], [pair], **SMALL)[0]) == 0


def test_unope_other_than_the_loras_is_refused(model):
    trained = dataclasses.replace(model, unope=CONVENTION)
    with pytest.raises(ValueError, match=r"UnoPE d, offset scale 1 .* trained with UnoPE h, offset scale 2"):
        generate(trained, [PROMPT], unope=UnoPE())
    with pytest.raises(ValueError, match="give its unope"):
        generate(model, [PROMPT], lora=make_lora())


def test_damaged_weights_give_no_picture(model, pair):
    norm = np.full_like(model.params["vae"]["decoder"]["norm_out"]["norm"]["scale"], np.nan)
    broken = jax.tree.map(lambda leaf: leaf, model.params)
    broken["vae"]["decoder"]["norm_out"]["norm"]["scale"] = norm
    with pytest.raises(FloatingPointError, match="NaN or infinite values"):
        generate(dataclasses.replace(model, params=broken), [PROMPT], [pair], **SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": 3}, "prompts must be a string or a list of strings, got int"),
        ({"refs": [[], []]}, "1 prompt but references for 2"),
        ({"width": 100}, "multiples of 16"),
        ({"steps": 0}, "steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"seed": -1}, "seeds"),
        ({"ref_size": 15}, "at least 16 pixels, got 15"),
        ({"num_images": 0}, "number of images"),
        ({"batch_size": 0}, "batch size"),
        ({"refs": [[Image.new("RGB", (4, 400))]]}, "reference 1 of prompt 1: 4x400"),
    ],
)
def test_unusable_arguments_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(model, **{"prompts": [PROMPT]} | arguments)


def test_defaults_follow_the_model():
    dev, schnell = PRESETS["flux_dev"], PRESETS["flux_schnell"]
    assert (make_settings(dev).steps, make_settings(dev).guidance) == (25, 4.0)
    assert (make_settings(schnell).steps, make_settings(schnell).guidance) == (4, None)
    assert [reference_side(dev, count) for count in (1, 2, 4)] == [512, 320, 320]
    assert [reference_side(TINY, count) for count in (1, 2)] == [64, 32]


def test_batches_are_of_one_shape_in_order():
    assert batches("aAbBcCd", str.isupper, 3) == [["a", "b", "c"], ["d"], ["A", "B", "C"]]


def test_the_compile_cache_is_the_users_unless_one_is_set(tmp_path, monkeypatch):
    configured = jax.config.jax_compilation_cache_dir
    assert str(use_compile_cache()) == configured
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert use_compile_cache() == tmp_path / "uno_jax" / "xla"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "uno_jax" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", configured)


@pytest.fixture(scope="module")
def listed(folder, pair):
    """A job list of three shapes, its references beside it, and the command that makes it."""
    for name, picture in zip(("cat.png", "coffee.png"), pair, strict=True):
        picture.save(folder / name)
    entries = [
        {"prompt": PROMPT, "image_paths": ["./cat.png", "coffee.png"], "image_tgt_path": "not/there.png"},
        {"prompt": "a dog", "seed": 9},
        {"prompt": "a cat in the snow", "image_paths": ["cat.png", "coffee.png"]},
        {"prompt": "a wide dog", "width": 96, "height": 32, "image_paths": []},
    ]
    (folder / "jobs.json").write_text(json.dumps(entries))
    command = ["--model", str(folder / "model"), "--jobs", str(folder / "jobs.json"), "--batch-size", "2"]
    return [*command, "--lora", str(folder / "lora"), *SMALL_ARGS]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_job_list_is_made_once_and_resumed(tmp_path, listed, capsys):
    main([*listed, "--out", str(tmp_path)])
    made = contents(tmp_path)
    assert sorted(made) == [f"{i}_0.{kind}" for i in range(4) for kind in ("json", "png")]
    settings = json.loads(made["3_0.json"])
    assert (settings["width"], settings["height"], settings["seed"]) == (96, 32, 3407)
    assert Image.open(tmp_path / "3_0.png").size == (96, 32)
    assert json.loads(made["1_0.json"])["seed"] == 9
    settings = json.loads(made["0_0.json"])
    assert (settings["unope"], settings["offset_scale"]) == ("h", 2.0)
    assert [ref["size"] for ref in settings["refs"]] == [[48, 48], [48, 16]]
    assert settings["schedule"] == sampling_schedule(2, 64, 64).tolist()

    (tmp_path / "2_0.png").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    main([*listed, "--out", str(tmp_path)])
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert contents(tmp_path) == made
    assert {name for name in after if after[name] != before.get(name)} == {"2_0.png", "2_0.json"}
    assert f"wrote {tmp_path} (1 picture, 3 kept)" in capsys.readouterr().out


@pytest.mark.slow
def test_finished_pictures_need_no_weights(tmp_path, listed, monkeypatch):
    main([*listed, "--out", str(tmp_path)])
    made = contents(tmp_path)
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    main([*listed, "--out", str(tmp_path)])
    assert contents(tmp_path) == made
    with pytest.raises(pytest.fail.Exception, match="weights"):
        main([*listed, "--out", str(tmp_path), "--guidance", "3", "--overwrite"])


@pytest.mark.slow
def test_an_interrupted_picture_leaves_nothing_and_is_made_again(tmp_path, listed, monkeypatch, capsys):
    replace, calls = atomic.os.replace, []

    def interrupted(aside, final):
        calls.append(final.name)
        if final.name == "2_0.png":
            raise KeyboardInterrupt
        replace(aside, final)

    monkeypatch.setattr(atomic.os, "replace", interrupted)
    with pytest.raises(SystemExit) as stop:
        main([*listed, "--out", str(tmp_path)])
    assert stop.value.code == 130 and "interrupted" in capsys.readouterr().err
    assert sorted(contents(tmp_path)) == ["0_0.json", "0_0.png"]
    monkeypatch.undo()
    main([*listed, "--out", str(tmp_path)])
    assert len(contents(tmp_path)) == 8


def test_pictures_of_other_settings_are_replaced_only_when_asked(tmp_path, listed, monkeypatch, capsys):
    main([*listed, "--out", str(tmp_path)])
    made = contents(tmp_path)
    (tmp_path / "1_0.json").unlink()  # a picture of another program
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(SystemExit) as stop:
        main([*listed, "--out", str(tmp_path), "--seed", "3"])
    told = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and "pictures of other settings would be replaced: " in told
        and "and 1 more" in told
    )
    assert "--overwrite" in told
    assert contents(tmp_path) == {name: made[name] for name in made if name != "1_0.json"}


@pytest.mark.slow
def test_a_prompt_without_out_takes_the_next_number(tmp_path, folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["--model", str(folder / "model"), "--prompt", "a dog", *SMALL_ARGS]
    main([*command, "--num-images", "2"])
    assert "wrote out/00000.png to out/00001.png (2 pictures)" in capsys.readouterr().out
    made = contents(tmp_path / "out")
    (tmp_path / "out" / "00007.png").write_bytes(b"another program's")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    main(command)
    assert "wrote out/00008.png\n" in capsys.readouterr().out
    after = contents(tmp_path / "out")
    assert after.keys() - made.keys() == {"00007.png", "notes.txt", "00008.png", "00008.json"}
    assert {name: after[name] for name in made} == made


def test_numbers_are_taken_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim_number(tmp_path), range(200)))
    assert sorted(path.name for path in claimed) == [f"{number:05}.png" for number in range(200)]


@pytest.mark.slow
def test_a_left_half_is_given_and_the_right_one_made(tmp_path, folder, listed):
    command = ["--model", str(folder / "model"), "--prompt", PROMPT, "--steps", "2"]
    for name in ("cat", "coffee"):
        main([*command, "--left", str(folder / f"{name}.png"), "--out", str(tmp_path / f"{name}.png")])
    cat, coffee = (Image.open(tmp_path / f"{name}.png") for name in ("cat", "coffee"))
    assert cat.size == (128, 64)
    assert all(difference(cat.crop(box), coffee.crop(box)) for box in ((0, 0, 64, 64), (64, 0, 128, 64)))
    settings = json.loads((tmp_path / "cat.json").read_text())
    assert settings["left"]["size"] == [64, 64] and settings["refs"] == []
    (folder / "left.json").write_text(
        json.dumps([{"prompt": PROMPT, "left_path": "cat.png", "width": 128, "seed": 3407}])
    )
    main([*command[:2], "--jobs", str(folder / "left.json"), "--steps", "2", "--out", str(tmp_path / "list")])
    assert difference(Image.open(tmp_path / "list" / "0_0.png"), cat) == 0


@pytest.mark.parametrize("form", [["--ref", "{0}", "{1}"], ["--ref", "{0}", "--ref", "{1}"]])
def test_one_prompt_from_the_command_line(tmp_path, folder, listed, form):
    refs = [part.format(folder / "cat.png", folder / "coffee.png") for part in form]
    out = tmp_path / "new" / "picture.png"
    main(["--model", str(folder / "model"), "--prompt", PROMPT, *refs, *SMALL_ARGS, "--out", str(out)])
    assert sorted(contents(out.parent)) == ["picture.json", "picture.png"]
    settings = json.loads(out.with_suffix(".json").read_text())
    assert [Path(ref["path"]).name for ref in settings["refs"]] == ["cat.png", "coffee.png"]
    assert settings["guidance"] == 4.0 and settings["lora"] is None
