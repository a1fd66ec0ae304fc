"""Sampling with a tiny model: batches, turns, thoughts and answers, by the API and the command."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.devices import simulated
from tests.tiny_model import TINY
from tests.tiny_model import random_params as random_network
from tests.tiny_scone import SPEAKING, VIT, write_tokenizer
from uno_jax import answer, generate, load_model
from uno_jax.families.family import Inputs
from uno_jax.families.model import Model
from uno_jax.families.scone.config import SconeConfig, SconeDefaults
from uno_jax.families.scone.contexts import all_turns, grow, make_contexts, make_items, text_item
from uno_jax.families.scone.guidance import Guidance
from uno_jax.families.scone.sampling import sample
from uno_jax.families.scone.settings import OPTIONS, check_turns, make_settings, options_of
from uno_jax.networks.mot import MoT
from uno_jax.networks.splits import Layout, Split
from uno_jax.sample import main as sample_command
from uno_jax.support import images
from uno_jax.weights.checkpoint import save_network
from uno_jax.weights.sample_mesh import SampleMesh, local_mesh, mesh_of, whole_heads

CONFIG = SconeConfig(
    SPEAKING,
    VIT,
    replace(TINY.vae, latent_channels=SPEAKING.latent_channels),
    SconeDefaults(resolution=32, ref_size=64, ref_vit_size=12, points=3),
)


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """A model, and a reference."""
    folder = tmp_path_factory.mktemp("scone")
    for kind in ("mot", "vit", "vae"):
        config = getattr(CONFIG, kind)
        params = random_network(config, 0)
        save_network(folder / "model" / kind, config, params, defaults=CONFIG.defaults)
    write_tokenizer(folder / "model" / "tokenizer")
    pictures[0].save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder / "model")


@pytest.fixture(scope="module")
def pictures():
    """Two of other sizes with as many tokens after padding, and one that is like the first."""
    rng = np.random.default_rng(0)
    sizes = ((64, 48), (48, 64), (64, 48))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def inputs_of(prompts, refs, **more):
    columns = tuple([images.to_array(ref) for ref in column] for column in zip(*refs, strict=True))
    seeds = np.arange(len(prompts), dtype=np.uint32)
    return Inputs(prompts, columns, seeds, 32, 32, **more)


def drawn(model, inputs):
    with jax.set_mesh(mesh_of(model)):
        return sample(model, inputs, make_settings(CONFIG)).pictures


@pytest.fixture(scope="module")
def together(model, pictures):
    """Two pictures in one batch, of prompts and references of other lengths and sizes."""
    return drawn(model, inputs_of(["a", "a red cat"], [pictures[:1], pictures[1:2]]))


def test_a_picture_does_not_depend_on_its_batch(model, pictures, together):
    alone = inputs_of(["a red cat"], [pictures[1:2]])._replace(seeds=np.array([1], np.uint32))
    np.testing.assert_allclose(drawn(model, alone)[0], together[1], atol=1e-4)


def test_pictures_of_one_prompt_share_their_contexts(model, pictures, together):
    inputs = inputs_of(["a", "a"], [pictures[:1], pictures[:1]])
    items = make_items(model, inputs, make_settings(CONFIG))
    assert [len(part.counts) for item in items for _, part in item.pieces] == [1, 1, 1]
    np.testing.assert_allclose(drawn(model, inputs)[0], together[0], atol=1e-4)


def test_contexts_are_what_they_leave_out(model, pictures):
    """By turns in any order: masks and rope positions of each branch, and the caches that they read."""
    guidance, settings = Guidance(), make_settings(CONFIG)

    def contexts(*turns, thoughts=()):
        items = make_items(model, inputs_of(["b"], [pictures[:1]], turns=[turns]), settings)
        items += [text_item(model, thoughts, kind="thought")] if thoughts else []
        found, reads = make_contexts(model, items, guidance)
        seen = [int(mask.sum()) for mask in found.seen]
        return reads, seen, [int(position[0]) for position in found.positions]

    reference = (2 + 3 * 4) + (2 + 4 * 6)  # a latent of 4x3 tokens, cells of the ViT, and their marks
    assert contexts(0, "b") == ((0, 0, 1), [reference + 3, reference, 3], [5, 2, 3])
    # The last text is in the middle, so that the branch without it has keys of its own.
    assert contexts("b", 0) == ((0, 1, 2), [reference + 3, reference, 3], [5, 2, 3])
    assert contexts("abc", 0, "b") == ((0, 0, 1), [reference + 8, reference + 5, 8], [10, 7, 8])
    # A thought is in none but the first.
    assert contexts(0, "b", thoughts=["xy"]) == ((0, 0, 1), [reference + 7, reference, 3], [9, 2, 3])


def test_without_turns_references_come_before_the_prompt():
    assert all_turns(inputs_of(["a"], [[Image.new("RGB", (16, 16))] * 2])) == [(0, 1, "a")]


def next_token(model, ids):
    """Of a text alone, by the network without a cache."""
    from tests.tiny_scone import sequence

    splits = (Split("text", 1, len(ids)),)
    inputs = sequence(splits)._replace(text=(jnp.asarray([ids]),))
    variables = {"params": model.params["mot"]}
    und, _, _ = MoT(SPEAKING).apply(variables, inputs, Layout(splits))
    return int(MoT(SPEAKING).apply(variables, und[:, -1], method="logits").argmax())


def test_an_answer_is_the_likeliest_text(model):
    """Token by token as the whole sequence without a cache has it; question and answer have a bos each."""
    c = SPEAKING
    ids = [c.bos_id, *model.tokenizer.encode("why"), c.eos_id, c.bos_id]
    wanted = []
    while len(wanted) < 3 and (token := next_token(model, ids)) != c.eos_id:
        wanted.append(token)
        ids.append(token)
    assert wanted
    assert answer(model, "why", max_tokens=3) == model.tokenizer.decode(wanted)


def test_other_seeds_answer_otherwise_at_a_temperature(model):
    answers = {answer(model, "why", max_tokens=3, temperature=5.0, seed=seed) for seed in (0, 0, 1)}
    assert len(answers) == 2


def test_a_thought_comes_before_the_picture(model):
    plain, thought_of = (
        generate(model, "a cat", think=think, max_tokens=3, text_cfg=1.0, image_cfg=1.0)[0]
        for think in (False, True)
    )
    assert "thought" not in plain.info and thought_of.info["thought"]
    assert np.asarray(plain).tolist() != np.asarray(thought_of).tolist()


def test_a_context_has_room_for_what_is_written(model, pictures):
    items = make_items(model, inputs_of(["b"], [pictures[:1]]), make_settings(CONFIG), latents=False)
    assert [split.kind for item in items for split, _ in item.pieces] == ["vit", "text"]
    context, _ = grow(model, items, room=16)
    assert context.seen.shape[1] >= context.used + 16


def command(folder, *words):
    sample_command(["--model", str(folder / "model"), *map(str, words)])


def test_the_command_draws_turns_with_a_thought(folder, tmp_path, capsys):
    jobs = [{"turns": [{"text": "a"}, {"image_path": "a.png"}], "seed": 5}]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = ("--jobs", folder / "jobs.json", "--out", tmp_path, "--think", "--max-tokens", 2)
    command(folder, *words)
    record = json.loads((tmp_path / "0_0.json").read_text())
    assert record["turns"] == ["a", 0] and record["steps"] == 2 and record["thought"]
    assert Image.open(tmp_path / "0_0.png").size == (32, 32)
    command(folder, *words)
    assert "kept" in capsys.readouterr().out


def test_the_command_answers(folder, capsys):
    command(folder, "--prompt", "why", "--understand", "--max-tokens", 3)
    first = capsys.readouterr().out.rstrip("\n")
    command(folder, "--prompt", "why", "--understand", "--max-tokens", 3, "--num-images", 2)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [0, 1] and first and lines[0]["answer"]


def test_a_plan_has_every_stage(folder, capsys):
    command(folder, "--plan", "local", "--refs", 2, "--batch-size", 1)
    out = capsys.readouterr().out
    stages = ("autoencoder, 64x64", "ViT, 12x12", "prefill", "all 2 denoising steps", "decode 32x32")
    assert all(stage in out for stage in stages) and "cache" in out


REFUSED = {
    "a large picture": (("--width", 1040), "pictures of up to 128 pixels a side, got 1040x32"),
    "a large ViT side": (("--vit-size", 518), "vit_size must be a multiple of 2 up to 12 pixels, got 518"),
    "an odd ViT side": (("--vit-size", 17), "vit_size must be a multiple of 2 up to 12"),
    "a large reference": (
        ("--ref-size", 256),
        "size must lie between 16 and 128 pixels, got 256",
    ),
    "guidance below 0": (("--image-cfg", -1), "--image-cfg must be at least 0"),
    "a reversed interval": (("--cfg-interval", 0.9, 0.1), "two rising times between 0 and 1, got 0.9 0.1"),
    "an interval beyond 1": (("--cfg-interval", 0, 1.5), "--cfg-interval must be at most 1"),
    "an unknown renorm": (("--renorm", "local"), "local"),
    "one point": (("--points", 1), "--points must be at least 2"),
    "an answer into a picture": (("--understand", "--out", "x.png"), "--understand answers in text"),
    "FLUX's positions": (("--unope", "d"), "this model does not take unope; it takes text_cfg"),
    "FLUX's guidance": (("--guidance", 3), "this model does not take guidance"),
    "FLUX's steps": (("--steps", 3), "this model does not take steps"),
    "a LoRA": (("--lora", "lora.safetensors"), "models of the family scone take no LoRA"),
    "a left half": (("--left", "a.png"), "this model takes no left half"),
    "a negative prompt": (("--negative", "b"), "this model takes no negative prompt (--negative, negative)"),
    "a start image": (("--start-image", "a.png"), "this model takes no start image"),
    "a mask": (("--mask", "a.png"), "this model takes no mask"),
    "an empty prompt": (("--prompt", " "), "the prompt is empty, but text guidance leads away"),
    "a temperature for nothing": (("--temperature", 1), "go with --think or --understand"),
    "a long thought": (
        ("--prompt", "a" * 20_000, "--think", "--max-tokens", 16_000),
        "take 36,002 positions, and this model has 32,768",
    ),
    "a long context": (
        ("--prompt", "a" * 40_000),
        "take 40,002 positions, and this model has 32,768",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_refused_before_weights_are_loaded(name, folder, monkeypatch, capsys):
    words, message = REFUSED[name]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(SystemExit) as ended:
        command(folder, *(() if "--prompt" in words else ("--prompt", "a")), *words)
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"turns": [{"image_path": "a.png"}]}, '"turns" hold no text'),
        ({"turns": [{"text": "a", "image_path": "a.png"}]}, '"turns" must hold'),
        ({"turns": [], "prompt": "a"}, 'leave out "prompt"'),
        ({"turns": {"text": 3}}, '"turns" must hold'),
    ],
)
def test_wrong_turns(entry, message, folder, capsys):
    (folder / "wrong.json").write_text(json.dumps([entry]))
    with pytest.raises(SystemExit):
        command(folder, "--jobs", folder / "wrong.json", "--out", folder / "none")
    assert message in capsys.readouterr().err


def test_weights_with_nan_are_named(model):
    params = model.params | {"vae": random_network(CONFIG.vae, 0)}
    params["mot"] = params["mot"] | {"norm_gen": {"scale": jnp.full(32, jnp.nan)}}
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        generate(replace(model, params=params), "a", text_cfg=1.0, image_cfg=1.0)
    params["mot"] = params["mot"] | {"norm_und": {"scale": jnp.full(32, jnp.nan)}}
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        answer(replace(model, params=params), "why", max_tokens=3)


def test_a_record_says_its_options():
    made = make_settings(CONFIG, points=3, shift=2.0, cfg_interval=(0.1, 0.9), think=True, temperature=0.5)
    found = options_of(made.record(32, 32))
    found["cfg_interval"] = tuple(found["cfg_interval"])
    assert make_settings(CONFIG, **{name: found[name] for name in OPTIONS if name in found}) == made


def test_four_references_of_the_largest_size_fit():
    """36,000 tokens at 10 positions."""
    settings = make_settings(SconeConfig())
    check_turns(SconeConfig(), SimpleNamespace(encode=str.split), [(1024, 1024)] * 4 + ["a dog"], settings)


def test_a_model_without_its_tokenizer_is_named(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "tokenizer")
    with pytest.raises(SystemExit):
        command(tmp_path, "--prompt", "a", "--out", tmp_path / "none")
    assert "has no tokenizer" in capsys.readouterr().err


def test_an_unknown_renorm_is_refused_by_the_api_too():
    with pytest.raises(ValueError, match="renorm must be one of text_channel, channel, global, none"):
        make_settings(CONFIG, renorm="local")


def test_a_question_to_a_model_that_only_draws_loads_no_weights(monkeypatch, capsys):
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(SystemExit) as ended:
        sample_command(["--prompt", "why", "--understand"])
    assert ended.value.code == 2 and "models of the family uno draw only" in capsys.readouterr().err


def test_a_model_that_only_draws_writes_no_text():
    tiny = Model(
        TINY, {kind: random_network(getattr(TINY, kind), 0) for kind in ("mmdit", "vae", "t5", "clip")}
    )
    with pytest.raises(ValueError, match="models of the family uno draw only"):
        answer(tiny, "why")
    with pytest.raises(ValueError, match="does not take think; it takes steps"):
        generate(tiny, "a", think=True)


@pytest.mark.slow
def test_eight_devices_compute_what_one_does(folder):
    script = Path(__file__).with_name("eight_devices.py")
    words = [sys.executable, str(script), str(folder / "model"), str(folder / "a.png")]
    run = subprocess.run(words, env=simulated(8) | {"PYTHONPATH": "."}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = {name: float(worst) for name, worst in (line.split(": ") for line in run.stdout.splitlines())}
    assert len(found) == 2 and max(found.values()) < 1e-5


def test_left_over_devices_hold_parts_of_the_weights():
    assert whole_heads((8, 1), 8, 4) == (-1, 4, 1)
    assert whole_heads((-1, 4), 8, 4) == (-1, 2, 4)
    assert whole_heads((1, -1), 8, 4) == (1, 1, -1)
    assert whole_heads((8, 1), 8, 0) == (1, 8, 1)
    with pytest.raises(ValueError, match="heads can be cut into 2 shares, not into 8"):
        local_mesh(SampleMesh(tensor=8), CONFIG, "float32")
