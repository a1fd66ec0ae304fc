"""DreamBench's lists, and its scores beside an independent computation by torch and transformers."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.evaluation.tiny_dreambench import SIDE, make_modules, write_encoders, write_list, write_photos
from tests.tiny_model import TINY, write_lora, write_model
from uno_jax.evaluate import main
from uno_jax.evaluation.dreambench import prompts as dreambench
from uno_jax.evaluation.dreambench.scores import bootstrap_interval, copied, summarise_rows
from uno_jax.families.uno.config import UnoPE
from uno_jax.tokenizers import clip_tokens

TOLERANCE = 1e-4  # of a cosine; measured 3e-7 plus what the pixels' roundings add
SAMPLED = ("--steps", "2", "--ref-size", "32", "--width", "32", "--height", "32")


@pytest.fixture(scope="module")
def modules():
    return make_modules()


@pytest.fixture(scope="module")
def encoders(modules, tmp_path_factory):
    return write_encoders(tmp_path_factory.mktemp("encoders"), modules)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("dreambooth"))


@pytest.fixture(scope="module")
def small_list(tmp_path_factory):
    return write_list(tmp_path_factory.mktemp("list") / "list.json")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Ten pictures by some other program, two a prompt."""
    folder = tmp_path_factory.mktemp("given")
    for index in range(5):
        for j in range(2):
            noise = np.random.default_rng([9, index, j]).integers(0, 255, (6, 6, 3), np.uint8)
            Image.fromarray(noise).resize((48, 40)).save(folder / f"{index}_{j}.png")
    return folder


def scores(*words: object) -> dict:
    out = words[words.index("--out") + 1]
    main([str(word) for word in words])
    return json.loads((out / "scores.json").read_text())


@pytest.fixture(scope="module")
def scored(encoders, photos, small_list, given, tmp_path_factory):
    """What the command says of the given pictures."""
    out = tmp_path_factory.mktemp("scored")
    shared = ("--suite", "dreambench-multi", "--data", photos, "--encoders", encoders, "--lists", small_list)
    return scores(*shared, "--score-only", given, "--num-images", "2", "--out", out)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


class Independent:
    """The same scores by transformers' modules and processors."""

    def __init__(self, modules):
        self.dino, self.clip = modules
        size = {"height": SIDE, "width": SIDE}
        # As DINO is evaluated, and clip's published processor for this resolution.
        self.pixels = {
            "dino": BitImageProcessorPil(
                size={"shortest_edge": 256},
                crop_size={"height": 224, "width": 224},
                resample=Image.Resampling.BICUBIC,
                image_mean=[0.485, 0.456, 0.406],
                image_std=[0.229, 0.224, 0.225],
            ),
            "clip_i": CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size),
        }

    def picture(self, name, path):
        image = Image.open(path).convert("RGB")
        pixels = self.pixels[name](image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            if name == "dino":
                return unit(self.dino(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0])[0]
            return unit(self.clip.get_image_features(pixels).pooler_output)[0]

    def prompt(self, text):
        with torch.no_grad():
            ids = torch.from_numpy(np.asarray(clip_tokens([text]))).long()
            return unit(self.clip.get_text_features(ids).pooler_output)[0]


def test_the_lists_are_dreambenchs(photos):
    single, pairs = dreambench.single_prompts(photos), dreambench.multi_prompts(photos)
    assert len(single) == len(pairs) == 750 == len(dreambench.multi_prompts(photos, 4))
    assert len({prompt.subjects for prompt in single}) == len({prompt.subjects for prompt in pairs}) == 30
    assert single[24].prompt == "a cube shaped backpack"
    said = {prompt.prompt for prompt in pairs if prompt.subjects == ("cat", "backpack")}
    assert {"a cat and a backpack in the snow", "a cat wearing a red hat, next to it is a backpack"} <= said
    assert "a purple cat, next to it is a backpack" in said
    assert any(prompt.prompt == "a wet bowl and a wet can" for prompt in pairs)
    for prompt in dreambench.multi_prompts(photos, 3):
        assert len(set(prompt.subjects)) == 3 == len(prompt.references)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dino", "clip_i"])
def test_picture_scores_equal_an_independent_computation(scored, modules, photos, given, name):
    theirs = Independent(modules)
    for row in scored["rows"]:
        picture = theirs.picture(name, given / row["picture"])
        each = [
            float(
                np.mean(
                    [float(picture @ theirs.picture(name, path)) for path in dreambench.photos(photos, s)]
                )
            )
            for s in row["subjects"]
        ]
        assert abs(row[name] - np.mean(each)) < TOLERANCE
        if len(each) > 1:
            assert abs(row[f"{name}_worst"] - min(each)) < TOLERANCE


def test_text_scores_equal_an_independent_computation(scored, modules, given):
    theirs = Independent(modules)
    for row in scored["rows"]:
        cosine = float(theirs.picture("clip_i", given / row["picture"]) @ theirs.prompt(row["prompt"]))
        assert abs(row["clip_t"] - cosine) < TOLERANCE


def test_means_are_over_pictures_then_over_subjects(scored):
    for name in ("dino", "clip_i", "clip_t"):
        groups = {}
        for row in scored["rows"]:
            groups.setdefault("+".join(row["subjects"]), []).append(row[name])
        means = {group: np.mean(values) for group, values in groups.items()}
        found = scored["scores"][name]
        assert found["groups"] == pytest.approx(means)
        assert found["mean"] == pytest.approx(np.mean(list(means.values())))
        low, high = found["interval"]
        assert min(means.values()) <= low < found["mean"] < high <= max(means.values())
    assert scored["scores"]["dino"]["categories"].keys() == {"scene", "property", "other"}


def test_everything_that_a_score_depends_on_is_told(scored):
    assert scored["num_images"] == 2 and scored["prompts"] == 5
    assert scored["resolution"] == "48x40" and scored["encoders"].keys() == {"dino", "clip"}
    assert {"jax", "pillow"} <= scored["versions"].keys()


def test_a_copy_is_closer_to_the_reference_than_any_other_photo():
    rng = np.random.default_rng(0)
    cells = rng.standard_normal((4, 3, 3, 8))
    cells /= np.linalg.norm(cells, axis=-1, keepdims=True)
    reference, other, another, _ = cells
    assert copied(reference, reference, [other, another])
    assert not copied(other, reference, [other, another])
    assert not copied(reference.transpose(1, 0, 2), reference, [reference])


def test_the_interval_narrows_with_more_subjects():
    values = np.random.default_rng(0).uniform(size=400)
    (a, b), (c, d) = bootstrap_interval(values[:10]), bootstrap_interval(values)
    assert d - c < (b - a) / 3
    assert bootstrap_interval(values) == (c, d)


def test_a_score_that_no_picture_has_is_left_out():
    rows = [{"subjects": ["a"], "category": "scene", "dino": 0.5, "copied_border": None}]
    assert summarise_rows(rows, ("dino", "copied_border")).keys() == {"dino"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder / "tiny")
    write_lora(folder / "lora", UnoPE(), TINY.mmdit)
    return folder


def sampled(model, encoders, photos, small_list, out) -> tuple:
    own = ("--model", model / "tiny", "--lora", model / "lora", *SAMPLED, "--batch-size", "2")
    shared = ("--suite", "dreambench-multi", "--data", photos, "--encoders", encoders, "--lists", small_list)
    return (*shared, *own, "--out", out)


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_file(model, encoders, photos, small_list, tmp_path):
    out = tmp_path / "out"
    whole = scores(*sampled(model, encoders, photos, small_list, out))
    content = (out / "scores.json").read_bytes()
    assert len(whole["rows"]) == 5 and whole["steps"] == 2 and whole["unope"] == "d"
    (out / "scores.json").unlink()
    (out / "3_0.png").unlink()
    (out / "4_0.json").write_text("{")
    times = {path: path.stat().st_mtime_ns for path in out.glob("[012]_0.png")}
    scores(*sampled(model, encoders, photos, small_list, out))
    assert (out / "scores.json").read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_one_command_draws_at_two_resolutions(model, encoders, photos, tmp_path, capsys):
    (tmp_path / "list.json").write_text(json.dumps([{"prompt": "a can", "image_paths": ["can/01.jpg"]}]))
    words = [str(word) for word in sampled(model, encoders, photos, tmp_path / "list.json", tmp_path)]
    start = words.index("--width")
    words[start : start + 4] = ["--resolutions", "32", "48"]
    main(words)
    told = capsys.readouterr().out
    for side in (32, 48):
        record = json.loads((tmp_path / f"{side}/scores.json").read_text())
        assert record["resolution"] == f"{side}x{side}" and record["width"] == record["height"] == side
        assert f"dreambench-multi, 1 prompt, at {side}x{side}\n" in told
        dino = record["scores"]["dino"]
        assert f"{dino['mean']:.4f} ({dino['interval'][0]:.4f} to" in (tmp_path / "table.md").read_text()
    table = (tmp_path / "table.md").read_text()
    assert "|  | 32x32 | 48x48 |\n| --- | --- | --- |\n| dino | " in table and table in told


@pytest.mark.slow
def test_two_processes_draw_what_one_does(model, encoders, photos, small_list, tmp_path, capsys):
    words = [str(word) for word in sampled(model, encoders, photos, small_list, tmp_path / "two")]
    main([*words, "--process-count", "2", "--process-index", "1"])
    share = sorted(path.name for path in (tmp_path / "two").glob("*.png"))
    assert 0 < len(share) < 5 and not (tmp_path / "two/scores.json").exists()
    assert f"others still draw {5 - len(share)} of 5 pictures" in capsys.readouterr().out
    main([*words, "--process-count", "2", "--process-index", "0"])
    scores(*sampled(model, encoders, photos, small_list, tmp_path / "one"))
    one, two = ((tmp_path / name / "scores.json").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.fixture
def paths(encoders, photos, small_list):
    return {"--data": photos, "--encoders": encoders, "--lists": small_list}


@pytest.mark.parametrize(
    "case",
    [
        (["--data", "{tmp}/nowhere"], "--data is DreamBooth's dataset"),
        (["--data", "{tmp}"], "no photos of backpack"),
        (["--encoders", "{tmp}"], "no encoder {tmp}/dino/vit"),
        (["--process-index", "1"], "--process-index must be between 0 and 0, got 1"),
        (["--num-images", "0"], "--num-images must be at least 1"),
        (["--subjects", "5"], "--subjects must be at most 4, got 5"),
        (["--lists", "{tmp}/none.json"], "none.json"),
        (["--lists", "{tmp}/object.json"], 'entry 0: "prompt" is missing'),
        (["--lists", "{tmp}/empty_prompt.json"], "entry 1: the prompt is empty"),
        (["--lists", "{tmp}/no_paths.json"], 'entry 0: "image_paths" must be a list of paths'),
        (["--lists", "{tmp}/own_size.json"], "entry 0: seed, width cannot be set by entry here"),
        (["--lists", "{tmp}/no_photo.json"], "no reference"),
        (["--resolutions", "32", "32"], "--resolutions names one twice: 32 32"),
        (
            ["--resolutions", "32", "--width", "32"],
            "--resolutions sets width and height and draws: leave out --width",
        ),
        (["--score-only", "{tmp}"], "lacks 5 of 5 pictures: 0_0.png"),
        (["--model", "{tmp}/none"], "none"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_drawn(paths, tmp_path, capsys, monkeypatch, case):
    words, message = case
    good = {"prompt": "a can", "image_paths": ["can/01.jpg"]}
    lists = {
        "object": {"a": 1},
        "empty_prompt": [good, {"prompt": " ", "image_paths": ["can/01.jpg"]}],
        "own_size": [{**good, "width": 64, "seed": 1}],
        "no_paths": [{"prompt": "a can", "image_paths": "can/01.jpg"}],
        "no_photo": [{"prompt": "a can", "image_paths": ["can/77.jpg"]}],
    }
    for name, content in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr("uno_jax.sampling.run.load_model", lambda *_: pytest.fail("weights were loaded"))
    given = {**paths, "--out": tmp_path / "out"}
    given.pop(words[0], None)
    line = [str(word) for pair in given.items() for word in pair]
    line += [word.format(tmp=tmp_path) for word in words]
    with pytest.raises(SystemExit) as stop:
        main(["--suite", "dreambench-multi", *line])
    assert stop.value.code == 2
    assert message.format(tmp=tmp_path) in capsys.readouterr().err


def test_an_unreadable_photo_is_named(encoders, photos, small_list, tmp_path, capsys):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    (data / "can/01.jpg").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        main(
            ["--suite", "dreambench-single", "--data", str(data), "--encoders", str(encoders)]
            + ["--lists", str(small_list), "--out", str(tmp_path / "out")]
        )
    assert "01.jpg" in capsys.readouterr().err
