"""A co-evolution: each step is done once, in order, from the best model so far, and one table comes of it."""

import dataclasses
import json
import shutil

import pytest

from tests.coevolution.programs import Programs, make_config
from uno_jax.coevolution import rounds
from uno_jax.coevolution import run as coevolution
from uno_jax.coevolution.config import SINGLE, load_coevolution
from uno_jax.coevolution.page import write_page
from uno_jax.coevolution.run import run_coevolution
from uno_jax.coevolve import main
from uno_jax.support.errors import RecipeError
from uno_jax.training.recipes import load_recipe

STEPS = ["pairs", "stage1", "second_references", "stage2", "toybox"]
WHOLE = ["base, toybox", *(f"round_{number}, {step}" for number in (1, 2) for step in STEPS)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("coevolution"))


@pytest.fixture
def run(config, tmp_path, monkeypatch):
    """Runs a co-evolution, in a folder with a space, by programs that only write."""

    def run(programs, config=config, page=False):
        monkeypatch.setattr(rounds, "run_program", programs)
        monkeypatch.setattr(coevolution, "write_page", write_page if page else lambda *_: None)
        run_coevolution(config, tmp_path / "of mine")
        return programs

    run.out = tmp_path / "of mine"
    return run


def test_the_steps_of_a_round_follow_one_another(run):
    programs = run(Programs())
    assert programs.ran == WHOLE
    first, second = (programs.words[f"round_{number}, pairs"] for number in (1, 2))
    assert "--generate.lora" not in first and first[first.index("--until") + 1] == "export"
    assert second[second.index("--generate.lora") + 1] == str(run.out / "round_1/stage2/lora")
    assert second[second.index("--config") + 1] == "small_referenced"
    seconds = programs.words["round_1, second_references"]
    assert seconds[seconds.index("--second-reference.lora") + 1] == str(run.out / "round_1/stage1/lora")
    assert "--until" not in seconds
    recipes = {
        place: load_recipe(str(run.out / place / "recipe.py"))
        for place in ("round_1/stage1", "round_1/stage2", "round_2/stage1")
    }
    assert recipes["round_1/stage1"].init_lora == ""
    assert recipes["round_1/stage2"].init_lora == str(run.out / "round_1/stage1/lora")
    assert recipes["round_2/stage1"].init_lora == str(run.out / "round_1/stage2/lora")
    assert [source.path for source in recipes["round_2/stage1"].data.sources] == [
        str(run.out / "round_2/pairs/export/single/train.json")
    ]
    assert programs.words["base, toybox"][-3:-2] == ["none"]


def test_the_table_has_a_row_for_the_base_and_each_round(run):
    run(Programs(), page=True)
    table = json.loads((run.out / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["base", "round 1", "round 2"]
    pairs = table["rows"][1]["pairs"]
    assert pairs["copied"] == 5 and pairs["filter-vlm"] == 4 and pairs["second-reference"] == 2
    assert (pairs["start"], pairs["single"], pairs["two"]) == ("base", 3, 2)
    assert table["rows"][2]["pairs"]["start"] == "round 1" and table["better"] == "round 2"
    top1 = table["rows"][2]["scores"]["top-1"]
    assert top1["value"] == 0.9 and top1["difference"] == pytest.approx(0.5)
    low, high = top1["difference_interval"]
    assert 0.2 < low < 0.5 < high < 0.8
    assert top1["interval"][0] < 0.9 < top1["interval"][1] <= 1
    lines = (run.out / "table.md").read_text().splitlines()
    assert lines[0].startswith("|  | from | diptychs |") and "| 90.0 % (" in lines[4]
    assert any(line.startswith("round 2 against round 1, top-1: +50.0 (") for line in lines)
    assert "round 2 against round 1, scene: +0.0 (+0.0 to +0.0): no more than chance" in lines
    page = (run.out / "index.html").read_text()
    assert "Co-evolution" in page and "Pairs of round 2" in page and "beyond chance" in page


def test_a_worse_round_is_no_start(run, config):
    three = dataclasses.replace(config, rounds=3)
    programs = run(Programs(twos=(2, 2, 2), top1=(2, 8, 7, 9)), three)
    words = programs.words["round_3, pairs"]
    assert words[words.index("--generate.lora") + 1] == str(run.out / "round_1/stage2/lora")
    assert json.loads((run.out / "table.json").read_text())["better"] == "round 3"


def test_a_round_without_second_references_ends_with_stage_1(run):
    programs = run(Programs(twos=(0, 2)))
    assert "round_1, stage2" not in programs.ran and "round_2, stage2" in programs.ran
    words = programs.words["round_2, pairs"]
    assert words[words.index("--generate.lora") + 1] == str(run.out / "round_1/stage1/lora")


@pytest.mark.parametrize("stop", [WHOLE[0], WHOLE[1], WHOLE[4], WHOLE[5], WHOLE[8]])
def test_what_was_stopped_goes_on(run, stop):
    with pytest.raises(KeyboardInterrupt):
        run(Programs(stop=stop))
    assert run(Programs()).ran == WHOLE[WHOLE.index(stop) :]
    assert run(Programs()).ran == []


def test_a_folder_that_was_moved_is_still_finished(run):
    run(Programs())
    shutil.move(run.out, run.out.with_name("moved"))
    shutil.move(run.out.with_name("moved"), run.out)
    assert run(Programs()).ran == []
    record = (run.out / "round_2/stage1.json").read_text()
    assert "{out}/round_1/stage2/lora" in record and str(run.out) not in record


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "first",
            ("--config", "small", "--limit", "5"),
            r"round_1/pairs is finished with .*arguments: .*\"4\"",
        ),
        ("stage1", None, r"round_1/stage1 is finished with other settings \(recipe.steps: 2 -> 3\)"),
        ("stage2", None, r"round_1/stage2 is finished with other settings \(recipe.steps: 2 -> 3\)"),
        (
            "evaluations",
            {"toybox": ("--count", "3")},
            "base/evaluation_toybox is finished with other settings",
        ),
        ("later", ("--config", "small"), "round_2/pairs is finished with other settings"),
    ],
)
def test_other_settings_are_refused_for_what_is_finished(run, config, name, value, message):
    run(Programs())
    changed = value or dataclasses.replace(getattr(config, name), steps=3)
    programs = Programs()
    with pytest.raises(RecipeError, match=f"{message}.*take those again, name a new --out, or remove"):
        run(programs, dataclasses.replace(config, **{name: changed}))
    assert programs.ran == []


def test_more_rounds_go_on(run, config):
    run(Programs())
    programs = Programs(twos=(2, 2, 2), top1=(2, 8, 18, 19))
    assert run(programs, dataclasses.replace(config, rounds=3)).ran == [
        each.replace("round_2", "round_3") for each in WHOLE if "round_2" in each
    ]


def test_what_was_done_anew_does_not_go_with_what_followed(run):
    run(Programs())
    shutil.rmtree(run.out / "round_1/stage1")
    (run.out / "round_1/stage1.json").unlink()
    with pytest.raises(RecipeError, match=r"round_1/second_references is finished .*\(earlier steps: "):
        run(Programs(scale=2.0))


def test_a_folder_that_no_record_is_of_is_refused(run):
    (run.out / "round_1/pairs").mkdir(parents=True)
    (run.out / "round_1/pairs/config.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"round_1/pairs is not empty and there is no .*pairs\.json"):
        run(Programs())


def test_a_round_without_pairs_says_where_to_look(run):
    with pytest.raises(RecipeError, match=r"round_1: no pair is left to train on; .*report\.html shows why"):
        run(Programs(singles=0))


def test_a_training_that_was_stopped_is_not_evaluated(run, monkeypatch):
    programs = Programs()
    monkeypatch.setattr(programs, "train", lambda words: None)
    with pytest.raises(RecipeError, match="round_1, stage1 was stopped before its last step; the same"):
        run(programs)


GOOD = (
    "import dataclasses\nfrom uno_jax.coevolution import *\n"
    "shipped = load_coevolution('small_coevolution')\n"
    "def get_config(): return dataclasses.replace(shipped, {})\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            "no coevolution none.py: expected a file, or one of flux_coevolution.py, small_coevolution.py",
        ),
        ("x = 1", "must define get_config"),
        (GOOD.format("rounds=0"), "rounds must be 1 to 100, got 0"),
        (GOOD.format("better='top'"), "better names no score 'top'; there are top-1, cosine"),
        (GOOD.format("evaluations={}"), "score 'top-1' names an unknown evaluation 'toybox'"),
        (
            GOOD.format("stage2=shipped.stage1"),
            "the round's list {pairs}/export/two/train.json must be among",
        ),
        (GOOD.format("stage1=dataclasses.replace(shipped.stage1, steps=0)"), "steps must be at least 1"),
    ],
)
def test_files_that_are_no_coevolution(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "none.py").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["--config", "none.py", "--out", "out"])
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_shipped_ones_have_the_same_form():
    small, flux = (load_coevolution(f"configs/{name}_coevolution.py") for name in ("small", "flux"))
    assert small.stage1.data.sources[0].path == flux.stage1.data.sources[0].path == SINGLE
    assert flux.stage1.lora.rank == 512 and flux.stage2.data.ref_resolution == 320
    assert "--generate.lora" not in flux.first and "flux_referenced" in flux.later
