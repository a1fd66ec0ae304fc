"""An ablation: equal stages are trained once, only what is missing is done, one table comes of it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tiny_dreambench import make_modules, write_encoders, write_photos
from tests.tiny_run import make_recipe
from uno_jax.ablate import main
from uno_jax.ablation import run as ablate
from uno_jax.ablation.grid import Ablation, Score, Variant, check_seeds, load_ablation
from uno_jax.ablation.run import Found, interval_from, mean_of, row_values, table_cell
from uno_jax.families.uno.config import UnoPE
from uno_jax.support.errors import RecipeError

SAMPLED = ("--steps", "1", "--ref-size", "32", "--width", "32", "--height", "32")

# The names of directories for configs/small_ablation.py and the shipped model, which finished stages keep.
WRITTEN = {
    "diagonal": ["96265cec77f3", "2935650ae62e"],
    "none": ["c95e86d0b4da", "1b29e59d012e"],
    "width only": ["7ea1ead8c0c1", "96cdcfd13ed0"],
    "height only": ["c21c6b25a5e4", "29c2b63a1c16"],
    "diagonal, scale 0.5": ["8ce81625ac15", "25a0d7b8ab5c"],
    "diagonal, scale 2": ["348b3da59e8d", "5f7c10599767"],
    "diagonal, scale 3": ["c5205a0fb231", "edce42a0b505"],
    "reference cache": ["e6b56f8a03d6", "7a759f1555ce"],
    "without stage I": ["770d8ac969b6"],
    "rank 16": ["b8cc1aa4ea85", "52adffffed1f"],
    "cropped reference": ["96265cec77f3", "4bcda1a128d7"],
}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory) -> Ablation:
    """Two variants that share stage I, and the base model."""
    folder = tmp_path_factory.mktemp("ablation")
    recipe = dataclasses.replace(make_recipe(folder), steps=1, checkpoint_every=1, unope=UnoPE())
    second = dataclasses.replace(recipe, seed=1)
    (folder / "list.json").write_text('[{"prompt": "a can", "image_paths": ["can/01.jpg"]}]')
    shared = ("--data", write_photos(folder / "photos"), "--lists", folder / "list.json")
    encoders = write_encoders(folder / "encoders", make_modules())
    words = ("--suite", "dreambench-multi", *shared, "--encoders", encoders, *SAMPLED)
    return Ablation(
        model=recipe.weights,
        variants=(
            Variant("both stages", (recipe, second), paper={"DINO": 0.542}),
            Variant("stage I alone", (recipe,), paper={"DINO": 0.511}),
            Variant("base"),
        ),
        evaluations={"one": tuple(map(str, words))},
        scores=(
            Score("DINO", "one", ("scores", "dino", "mean")),
            Score("CLIP-T", "one", ("scores", "clip_t", "mean"), percent=True),
        ),
    )


@pytest.fixture(scope="module")
def done(ablation, tmp_path_factory):
    """Where it was run, and the programs that ran."""
    out, programs = tmp_path_factory.mktemp("out"), []

    def program(what, module, *arguments, ours=ablate.run_program):
        programs.append(what)
        ours(what, module, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablate, "run_program", program)
        ablate.run_ablation(ablation, out)
        yield out, programs


@pytest.mark.slow
def test_equal_stages_are_trained_once(done):
    _, programs = done
    assert programs == [
        "both stages, stage 1",
        "both stages, stage 2",
        "both stages, one",
        "stage I alone, one",
        "base, one",
    ]


@pytest.mark.slow
def test_the_second_stage_starts_from_the_first(ablation, done):
    out, _ = done
    first, second = ablate.stage_recipes(ablation.variants[0], out)
    assert second.init_lora == f"{first.workdir}/lora" and first.init_lora == ""
    assert ablate.stage_recipes(ablation.variants[1], out) == [first]


def test_jobs_are_told_apart_by_the_weights_and_not_by_the_place(ablation, tmp_path):
    weights = tmp_path / "weights"
    shutil.copytree(ablation.model, weights)
    variant = Variant(
        "a", tuple(dataclasses.replace(each, weights=str(weights)) for each in ablation.variants[0].stages)
    )
    found = dataclasses.replace(ablation, model=str(weights), variants=(variant,))

    def ids(out):
        recipes = ablate.stage_recipes(variant, out)
        lora = f"{recipes[-1].workdir}/lora"
        places = [
            *(recipe.workdir for recipe in recipes),
            ablate.evaluation_dir(found, variant, "one", lora, out),
        ]
        return [Path(place).name for place in places]

    before = ids(Path("out"))
    assert ids(tmp_path / "elsewhere") == before
    (weights / "mmdit" / "config.json").write_text("{}")
    assert not set(ids(Path("out"))) & set(before)


def test_trained_stages_are_found_again_by_their_written_names():
    variants = load_ablation("configs/small_ablation.py").variants
    assert {variant.name for variant in variants} == WRITTEN.keys()
    for variant in variants:
        recipes = ablate.stage_recipes(variant, Path("out"))
        assert [Path(recipe.workdir).name for recipe in recipes] == WRITTEN[variant.name]


def test_a_verdict_in_a_row_counts_as_0_or_1():
    score = Score("both", "one", ("three",), row=("model", "top1"), kind="three")
    rows = [
        {"kind": "single", "prompt": "a mug", "model": {}},
        {"kind": "three", "prompt": "mugs", "model": {"top1": True}},
        {"kind": "three", "prompt": "cups", "model": {"top1": False}},
    ]
    assert row_values({"rows": rows}, score, Path("scores.json")) == {(0, "mugs"): 1, (1, "cups"): 0}
    with pytest.raises(RecipeError, match=r"scores\.json: model\.top1 must be a finite number"):
        row_values({"rows": [rows[1] | {"model": {"top1": None}}]}, score, Path("scores.json"))


def test_scores_over_seeds_are_means_and_their_intervals_hold_over_both():
    def seed(*values: float) -> Found:
        return Found(sum(values) / len(values), {(i, "a mug"): value for i, value in enumerate(values)})

    found, base = mean_of([seed(1.0, 0.0), seed(0.0, 0.0)]), mean_of([seed(0.0, 0.0), seed(0.0, 0.0)])
    assert (found.value, found.rows) == (0.25, {(0, "a mug"): 0.5, (1, "a mug"): 0.0})
    assert table_cell(found, None, percent=True) == "25.0 ± 35.4 %"
    # With the first seed twice and the first row twice all is right, with the other seed nothing is.
    assert interval_from(found, base) == (0.0, 1.0)
    assert mean_of([base.seeds[0]]) is base.seeds[0]


def test_every_seed_is_trained_and_named_by_it(ablation, tmp_path):
    seeded = dataclasses.replace(ablation, seeds=(0, 7))
    own = ablate.by_seed(seeded, ablation.variants[0])
    assert [[stage.seed for stage in variant.stages] for variant in own] == [[0, 0], [7, 7]]
    names = {ablate.stage_recipes(variant, tmp_path)[0].workdir for variant in own}
    assert len(names) == 2
    with pytest.raises(RecipeError, match="seeds must be different numbers of 0 or more, got 1, 1"):
        check_seeds((1, 1))


@pytest.mark.slow
def test_the_table_has_values_differences_and_the_papers(ablation, done):
    out, _ = done
    lines = (out / "table.md").read_text().splitlines()
    assert lines[0] == "| | DINO | paper | CLIP-T |"
    scores = json.loads((out / "table.json").read_text())["scores"]
    assert len({json.dumps(row) for row in scores.values()}) == 3
    difference = scores["stage I alone"]["DINO"] - scores["both stages"]["DINO"]
    assert f"({difference:+.3f}) | 0.511 (-0.031) |" in lines[3]
    assert (
        lines[4].startswith("| base |") and lines[2].split(" | ")[1] == f"{scores['both stages']['DINO']:.3f}"
    )


@pytest.mark.slow
def test_only_what_is_missing_is_done(ablation, done):
    out, programs = done
    before = (out / "table.md").read_bytes()
    del programs[:]
    ablate.run_ablation(ablation, out)
    assert programs == []
    (broken,) = [
        path
        for path in (out / "evaluations").iterdir()
        if json.loads((path / "scores.json").read_text())["lora"] is None
    ]
    (broken / "scores.json").unlink()
    drawn = {path: path.stat().st_mtime_ns for path in broken.glob("*_0.png")}
    ablate.run_ablation(ablation, out, only=["base"])
    assert drawn and drawn == {path: path.stat().st_mtime_ns for path in drawn}
    assert programs == ["base, one"] and (out / "table.md").read_bytes() == before


def test_cells():
    assert table_cell(None, Found(1.0, {}), True) == ""
    assert table_cell(Found(0.4667, {}), None, True) == "46.7 %"
    assert table_cell(Found(0.4, {}), Found(0.5, {}), True) == "40.0 % (-10.0)"
    assert table_cell(Found(0.4, {}), None) == "0.400"


def test_a_difference_has_the_interval_of_its_rows():
    """Twice the standard error of a paired difference, nearly."""
    rng = np.random.default_rng(0)
    base, change = rng.normal(0, 5, 400), rng.normal(1, 2, 400)
    first, second = (
        Found(float(rows.mean()), {(i, "a can"): float(row) for i, row in enumerate(rows)})
        for rows in (base, base + change)
    )
    low, high = interval_from(second, first)
    error = change.std() / 20
    assert low == pytest.approx(change.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(change.mean() + 1.96 * error, abs=0.3 * error)
    assert table_cell(second, first).endswith(f", {low:+.3f} to {high:+.3f})")
    others = Found(0.0, {(i, "a pan"): row for (i, _), row in first.rows.items()})
    assert interval_from(second, Found(0.0, {})) is None and interval_from(second, others) is None


GOOD = "from uno_jax.ablation.grid import *\nfrom uno_jax.training.config import TrainConfig\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "one of small_ablation.py, small_score_ablation.py, small_short_ablation.py"),
        ("x = 1", "must define get_config"),
        (f"{GOOD}def get_config(): return Ablation('m', (), {{}}, ())", "variants of different names"),
        (
            f"{GOOD}def get_config(): return Ablation('m', (Variant('a'), Variant('a')), {{}}, ())",
            "variants of different names",
        ),
        (
            f"{GOOD}def get_config(): return Ablation('m', (Variant('a'),), {{}}, (Score('s', 'e', ()),))",
            "names an unknown evaluation",
        ),
        (
            f"{GOOD}a = Variant('a', (TrainConfig(steps=0),))\n"
            "def get_config(): return Ablation('m', (a,), {}, ())",
            "steps must be at least 1",
        ),
    ],
)
def test_files_that_are_no_ablation(tmp_path, capsys, text, message):
    path = tmp_path / "ablation.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["--config", str(path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_unknown_variant_and_a_missing_score(ablation, done, tmp_path):
    out, _ = done
    with pytest.raises(RecipeError, match="no variant other. There are: both stages; stage I alone; base"):
        ablate.run_ablation(ablation, out, only=["other"])
    odd = dataclasses.replace(ablation, scores=(Score("odd", "one", ("scores", "nothing")),))
    with pytest.raises(RecipeError, match="has no scores.nothing: at 'nothing' there is dino"):
        ablate.read_scores(odd, out)


@pytest.mark.slow
def test_a_program_that_fails_is_told(ablation, tmp_path):
    stage = dataclasses.replace(ablation.variants[1].stages[0], weights=str(tmp_path / "nowhere"))
    broken = dataclasses.replace(ablation, variants=(Variant("odd", (stage,)),))
    with pytest.raises(RecipeError, match="odd, stage 1 failed with code 2; the same command continues"):
        ablate.run_ablation(broken, tmp_path / "out")


def test_an_evaluation_that_cannot_run_is_told_before_anything_is_trained(ablation, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "run_program", lambda *_: pytest.fail("a program was started"))
    lost = dataclasses.replace(ablation, model=str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="nowhere"):
        ablate.run_ablation(lost, tmp_path / "out")


@pytest.mark.slow
def test_the_shipped_ablation_runs_as_a_command(tmp_path):
    """As a program `ablate` is the module __main__: the classes of a config must be the same for it."""
    config = "configs/small_ablation.py"
    command = ["-m", "uno_jax.ablate", "--config", config, "--out", str(tmp_path), "--only", "nobody"]
    ran = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 2 and "no variant nobody. There are: diagonal; none; width only" in ran.stderr


def test_the_shipped_ablations_differ_in_what_they_say():
    found = load_ablation("configs/small_ablation.py").variants
    assert [variant.name for variant in found][:2] == ["diagonal", "none"]
    assert len({sum(stage.steps for stage in variant.stages) for variant in found}) == 1
    assert len({str(variant.stages) for variant in found}) == len(found)
    (cropped,) = (variant.stages[1].data for variant in found if variant.name == "cropped reference")
    assert not cropped.encodings and sum("_cropped/" in source.path for source in cropped.sources) == 2
    scores = load_ablation("configs/small_score_ablation.py").variants
    assert [variant.stages[0].data.sources[0].min_score for variant in scores] == [4, 3, 0, 4]
    short = load_ablation("configs/small_short_ablation.py").variants
    assert [variant.name for variant in short][:3] == ["diagonal", "none", "width only"]
    assert len({str(variant.stages) for variant in short}) == len(short) == 12
    assert {stage.steps for variant in short for stage in variant.stages} == {80, 160, 320}
    pairs = load_ablation("configs/small_short_pairs_ablation.py").variants
    assert len({str(variant.stages) for variant in pairs}) == len(pairs) == 9
    firsts = {str(variant.stages[0]) for variant in short}
    assert [str(v.stages[0]) in firsts for v in pairs] == [v.name != "without stage I" for v in pairs]
    assert {sum(stage.steps for stage in variant.stages) for variant in pairs} == {280}
