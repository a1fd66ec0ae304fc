"""Evaluation: ranking, swaps and scenes on features made by hand; real composites; the command at large."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import random_params, write_lora, write_model
from uno_jax.evaluate import main
from uno_jax.evaluation.toybox import places, ranking, scenes
from uno_jax.evaluation.toybox.cases import left_to_right, make_cases, side_of
from uno_jax.evaluation.toybox.draw import case_requests, draw_cases
from uno_jax.evaluation.toybox.ranking import cosines, draw_candidates, first_is_best, similarity, swapped
from uno_jax.evaluation.toybox.scorer import cell_cosines, features, load_scorer
from uno_jax.evaluation.toybox.scores import judge_pictures, make_judge, on_white, summarise_verdicts
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.settings import make_settings
from uno_jax.networks.efficientnet import EfficientNetConfig
from uno_jax.reporting.evaluations import read_evaluation
from uno_jax.toybox import Sample, load_subjects, noun_phrase
from uno_jax.toybox.appearance import SLOTS
from uno_jax.weights.checkpoint import save_network
from uno_jax.weights.load import load_model, read_model_config

# Random weights, in the shape of the real network but small.
NETWORK = EfficientNetConfig(8, (1, 2, 1), (8, 12, 16), (3, 5, 3), (1, 2, 2), (1, 2, 2), 32, 64)
SOURCES = {"model", "without_reference", "real"}


@pytest.fixture(scope="module")
def scorer_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    save_network(folder / "efficientnet", NETWORK, random_params(NETWORK, 3))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_model(folder / "model")
    write_lora(folder / "lora", UnoPE("h", 2.0))
    return folder


@pytest.fixture(scope="module")
def subjects():
    return load_subjects(split="val")


def test_candidates_are_the_right_one_and_19_that_are_not_in_the_picture():
    shown = np.array([[3, 7], [7, 3], [0, 59]])
    candidates = draw_candidates(np.random.default_rng(0), shown, 60)
    assert candidates.shape == (3, 2, 20) and (candidates[..., 0] == shown).all()
    for together, row in zip(shown, candidates.reshape(3, 40), strict=True):
        assert len(set(row[:20])) == len(set(row[20:])) == 20
        assert not set(together) & ({*row[1:20]} | {*row[21:]})
    assert (candidates == draw_candidates(np.random.default_rng(0), shown, 60)).all()


def test_a_subject_is_found_in_the_crop_that_is_most_like_it():
    gallery = np.eye(4)
    crops = np.array([[[5, 0, 0, 0], [1, 0, 3, 1]]], float)  # the first is subject 0, the second mostly 2
    cosine = cosines(crops, gallery)
    similar = similarity(cosine, np.array([[[0, 1, 3], [2, 1, 3], [3, 1, 2]]]))
    assert similar[0, 0].tolist() == [1, 0, pytest.approx(11**-0.5)]
    assert first_is_best(similar).tolist() == [[True, True, False]]


def test_a_tie_is_not_recognised():
    assert not first_is_best(np.full((1, 1, 20), 0.5)).any()


def test_swapped_subjects_are_seen_and_the_prompt_decides():
    cosine = np.zeros((1, 4, 3))
    cosine[0, 0, 2] = cosine[0, 3, 1] = 0.9  # subject 2 on the left, 1 on the right
    columns = np.array([0, 0, 1, 1])
    assert swapped(cosine, np.array([[2, 1]]), columns).tolist() == [False]
    assert swapped(cosine, np.array([[1, 2]]), columns).tolist() == [True]


@pytest.mark.parametrize("count", [3, 4])
def test_several_subjects_are_in_the_order_asked_for_or_in_any_other(count):
    cosine = np.zeros((1, 2 * count, 5))
    for place in range(count):
        cosine[0, 2 * place + 1, place] = 0.9
    columns = np.arange(2 * count) // 2
    for order in itertools.permutations(range(count)):
        assert swapped(cosine, np.array([order]), columns).tolist() == [order != tuple(range(count))]


@pytest.mark.parametrize(("count", "side"), [(2, 29), (3, 22), (4, 15)])
def test_crops_lie_in_the_picture_with_a_column_for_each_subject(count, side):
    grid = ranking.CROPS[count]
    crops = ranking.cut_crops(np.zeros((64, 64, 3), np.uint8), grid)
    assert {crop.shape for crop in crops} == {(side, side, 3)} and len(grid.columns) == len(crops)
    assert set(grid.columns) == set(range(count))
    across = [grid.lefts[column] + grid.side / 2 for column in range(count)]
    np.testing.assert_allclose(across, SLOTS[count], atol=0.01)


def test_ridge_tells_classes_apart_that_it_has_not_seen_the_samples_of():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 12))
    draw = lambda n: (labels := rng.integers(0, 5, n), centres[labels] + rng.normal(0, 0.2, (n, 12)))  # noqa: E731
    labels, x = draw(100)
    ridge = scenes.fit(x, labels, 5)
    labels, x = draw(100)
    assert (scenes.predict(ridge, x) == labels).mean() > 0.95
    assert (scenes.predict(ridge, rng.permutation(x)) == labels).mean() < 0.5


def test_scenes_are_learned_at_several_softnesses():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sharp, *soft = (scenes.soften(picture, softness) for softness in scenes.SOFTNESS)
    assert (sharp == picture).all()
    assert picture.std() > soft[0].std() > soft[1].std() and soft[1].shape == picture.shape


def test_cases_show_every_subject_before_one_twice_and_do_not_depend_on_the_size(subjects):
    cases = make_cases(subjects[:5], 7, 32, seed=1)
    shown = [case.subjects[0] for case in cases["single"]]
    assert len(set(shown[:5])) == 5 and shown[5:] == shown[:2]
    assert {len(case.references) for case in cases["two"]} == {2}
    assert all(case.scenes[0] not in case.reference_scenes for case in cases["single"] + cases["two"])
    larger = make_cases(subjects[:5], 7, 48, seed=1)
    assert [case.prompt for case in larger["two"]] == [case.prompt for case in cases["two"]]


def test_the_order_of_two_subjects_is_read_from_the_prompt(subjects):
    cases = make_cases(subjects, 40, 32, seed=0)["two"]
    orders = [left_to_right(case) for case in cases]
    for case, order in zip(cases, orders, strict=True):
        assert (order is not None) == (" on the left" in case.prompt and " on the right" in case.prompt)
        if order:
            side = "left" if order[0] == case.subjects[0] else "right"
            assert f"on the {side} and" in case.prompt
    assert {order == case.subjects for case, order in zip(cases, orders, strict=True) if order} == {
        True,
        False,
    }


@pytest.mark.parametrize(("kind", "count"), [("three", 3), ("four", 4)])
def test_the_order_of_several_subjects_is_read_from_the_prompt(subjects, kind, count):
    cases = make_cases(subjects, 12, 32, 0, (kind,))[kind]
    assert {len(case.subjects) for case in cases} == {len(case.references) for case in cases} == {count}
    orders = [left_to_right(case) for case in cases]
    for case, order in zip(cases, orders, strict=True):
        assert (order is not None) == case.prompt.startswith("from left to right ")
        if order:
            assert sorted(order) == sorted(case.subjects)
            at = [case.prompt.index(noun_phrase(name)) for name in order]
            assert at == sorted(at)
    assert any(orders) and not all(orders)


def test_kinds_are_drawn_alike_alone_and_together(subjects):
    usual, some = make_cases(subjects, 2, 32, 0), make_cases(subjects, 2, 32, 0, ("three", "two", "two"))
    assert list(usual) == ["single", "two"] and list(some) == ["three", "two"]
    for one, other in zip(usual["two"], some["two"], strict=True):
        assert one.prompt == other.prompt and (one.target == other.target).all()


def test_prompts_of_kind_placed_all_name_a_side(subjects):
    cases = make_cases(subjects[:3], 4, 32, 0, ("placed",))["placed"]
    sides = [side_of(case) for case in cases]
    assert all(f" on the {side}, " in case.prompt for side, case in zip(sides, cases, strict=True))
    assert len({case.subjects for case in cases}) == 3 and {len(case.references) for case in cases} == {1}
    larger = make_cases(subjects[:3], 4, 48, 0, ("placed",))["placed"]
    assert [case.prompt for case in larger] == [case.prompt for case in cases]
    assert side_of(replace(cases[0], prompt="a magnifying glass tilted left on a beach")) == ""


def test_the_centre_of_what_is_like_the_subject(subjects):
    likeness = np.full((3, 4, 4), 0.2)
    likeness[0, 1:3, 0], likeness[1, :, 3] = 0.8, 0.9
    np.testing.assert_allclose(places.centres(likeness), [0.125, 0.875, 0.5])
    cases = [
        Sample(f"a mug on the {side}, on a beach", None, (), ("mug",), ("beach",))
        for side in ("left", "right")
    ]
    assert places.follow_prompts(cases, np.array([0.4, 0.4])) == [True, False]


def test_a_candidate_is_alone_on_white(subjects):
    page = on_white(subjects[0])
    assert page.shape[0] == page.shape[1] and (page[0] == 255).all() and (page[:, -1] == 255).all()
    assert (page != 255).any()


def test_features_do_not_depend_on_the_batch(scorer_dir):
    scorer = load_scorer(scorer_dir)
    pictures = list(np.random.default_rng(0).integers(0, 255, (18, 40, 40, 3), np.uint8))
    many, one = features(scorer, pictures), features(scorer, pictures[17:])
    cells = cell_cosines(scorer, pictures, many.content)
    assert cells.shape[0] == 18 and np.abs(cells).max() <= 1 + 1e-5
    assert many.content.shape == (18, 32) and many.border.shape == (18, 12)
    np.testing.assert_allclose(many.content[17:], one.content, rtol=1e-5, atol=1e-5)


def test_a_picture_of_the_candidate_itself_is_recognised(scorer_dir, subjects):
    judge = make_judge(load_scorer(scorer_dir), subjects[:24], 32, seed=0)
    cases = make_cases(subjects[:24], 6, 32, seed=0)
    named = {subject.name: subject for subject in subjects}
    perfect = [on_white(named[case.subjects[0]]) for case in cases["single"]]
    verdicts = judge_pictures(judge, cases["single"], perfect, "single")
    scores = summarise_verdicts(verdicts)
    assert scores["top1"] == 1 and scores["cosine"] == pytest.approx(1, abs=1e-5)
    scores = summarise_verdicts(
        judge_pictures(judge, cases["two"], [case.target for case in cases["two"]], "two")
    )
    assert "placed" not in scores and not verdicts.placed
    assert scores["count"] == 6 and scores["sided"] == sum(left_to_right(c) is not None for c in cases["two"])


def test_three_four_and_placed_subjects_are_judged(scorer_dir, subjects):
    judge = make_judge(load_scorer(scorer_dir), subjects[:24], 32, seed=0)
    for kind, each in make_cases(subjects[:24], 3, 32, 0, ("three", "four", "placed")).items():
        verdicts = judge_pictures(judge, each, [case.target for case in each], kind)
        scores = summarise_verdicts(verdicts)
        assert scores["count"] == 3 and ("placed" in scores) == (kind == "placed")
        assert scores.get("sided", 0) == sum(bool(left_to_right(case)) for case in each if kind != "placed")


@pytest.mark.slow
def test_without_references_a_base_model_draws_from_prompt_and_seed_alone(weights, subjects):
    model = load_model(weights / "model", None)
    cases = make_cases(subjects, 2, 64, seed=0)["single"]
    bare = [replace(case, references=()) for case in cases]

    def draw(shown, seed, **options):
        return draw_cases(
            model,
            case_requests(model.config, shown, seed, **options),
            make_settings(model.config, steps=1),
            2,
        )

    drawn, again = draw(cases, 5, references=False), draw(bare, 5)
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))
    other = draw(cases, 6, references=False)
    assert (other[0] != drawn[0]).any() and drawn[0].shape == (64, 64, 3)


def test_references_have_the_size_that_is_asked_for(weights, subjects):
    config = read_model_config(weights / "model")
    cases = make_cases(subjects, 2, 64, seed=0)["two"]
    requests = case_requests(config, cases, 5, ref_size=48)
    assert {ref.size for each in requests for ref in each.refs} == {(48, 48)}
    assert {ref.size for each in case_requests(config, cases, 5) for ref in each.refs} != {(48, 48)}
    assert [(each.width, each.height, each.seed) for each in requests] == [(64, 64, 5), (64, 64, 6)]


def arguments(weights, scorer_dir, out, *more):
    own = ["--model", weights / "model", "--scorer", scorer_dir, "--out", out, "--count", 2, "--steps", 1]
    return [str(each) for each in (*own, *more)]


@pytest.mark.slow
def test_the_command_writes_scores_page_sheet_and_pictures(weights, scorer_dir, tmp_path, capsys):
    out = tmp_path / "out"
    main(arguments(weights, scorer_dir, out, "--lora", weights / "lora", "--batch-size", 2))
    scores = json.loads((out / "scores.json").read_text())
    assert (scores["suite"], scores["unope"], scores["offset_scale"]) == ("toybox", "h", 2.0)
    for kind in ("single", "two"):
        assert set(scores["efficientnet_lite0"][kind]) == SOURCES
        for each in scores["efficientnet_lite0"][kind].values():
            assert each["count"] == 2 and {"top1", "cosine", "scene_accuracy"} <= each.keys()
    page = (out / "index.html").read_text()
    names = {path.name for path in (out / "pictures").iterdir()}
    assert len(names) == 2 * 4 + 2 * 5 and all(f'src="pictures/{name}"' in page for name in names)
    drawn = [np.asarray(Image.open(out / f"pictures/single_000_{source}.png"), int) for source in SOURCES]
    assert all(picture.shape == (64, 64, 3) for picture in drawn)
    assert min(np.abs(a - b).max() for a, b in zip(drawn, drawn[1:] + drawn[:1], strict=True)) > 10
    assert Image.open(out / "sheet.png").width > 1000
    assert "single, model: efficientnet_lite0_count 2, efficientnet_lite0_top1" in capsys.readouterr().out


@pytest.mark.slow
def test_other_kinds_are_drawn_scored_and_shown(weights, scorer_dir, tmp_path):
    out = tmp_path / "out"
    main(arguments(weights, scorer_dir, out, "--count", 1, "--kinds", "three", "placed", "--no-baseline"))
    record = json.loads((out / "scores.json").read_text())
    scores = record["efficientnet_lite0"]
    assert list(scores) == ["three", "placed"] and scores["placed"]["real"]["placed"] in (0, 1)
    assert list(scores["three"]) == ["model", "real"]
    assert [("placed" in row["model"], row["kind"]) for row in record["rows"]] == [
        (False, "three"),
        (True, "placed"),
    ]
    page = (out / "index.html").read_text()
    assert "<h2>Three subjects</h2>" in page and "on the left or on the right</h2>" in page
    names = {path.name for path in (out / "pictures").iterdir()}
    assert {"three_000_ref3.png", "placed_000_ref1.png", "placed_000_model.png"} <= names
    assert len(names) == 5 + 3 and all(f'src="pictures/{name}"' in page for name in names)
    report = read_evaluation(out, None)
    assert list(report.scores) == [
        f"{kind}, {title}" for kind in scores for title in ("model", "real composite")
    ]


@pytest.mark.slow
def test_what_an_interruption_left_is_done_again_and_what_is_finished_is_kept(weights, scorer_dir, tmp_path):
    out = tmp_path / "out"
    main(arguments(weights, scorer_dir, out))
    finished = (out / "scores.json").read_bytes()
    with pytest.raises(SystemExit):
        main(arguments(weights, scorer_dir, out))
    (out / "scores.json").unlink()
    main(arguments(weights, scorer_dir, out))
    assert (out / "scores.json").read_bytes() == finished


@pytest.mark.parametrize(
    "case",
    [
        (["--suite", "dreambench"], "dreambench"),
        (["--scorer", "absent"], "no scorer weights absent/efficientnet: make them with uno-convert"),
        (["--subjects", "absent"], "manifest.json not found"),
        (["--kinds", "single", "five"], "five"),
        (["--kinds"], "--kinds must name at least one of single, two"),
        (["--count", "0"], "--count must be at least 1"),
        (["--model", "absent"], "no model directory absent"),
        (["--lora", "absent.safetensors"], "absent.safetensors"),
        (["--lora", "LORA", "--unope", "d"], "the LoRA was trained with UnoPE h"),
        (["--out", "."], "--out . is not empty"),
    ],
)
def test_bad_input_is_told_before_weights_are_loaded(
    weights, scorer_dir, tmp_path, monkeypatch, capsys, case
):
    more, message = case
    loader = "uno_jax.evaluation.toybox.suite.load_model"
    monkeypatch.setattr(loader, lambda *_: pytest.fail("weights were loaded"))
    more = [str(weights / "lora") if each == "LORA" else each for each in more]
    with pytest.raises(SystemExit) as stop:
        main(arguments(weights, scorer_dir, tmp_path / "out", *more))
    told = capsys.readouterr().err
    assert stop.value.code == 2 and message in told and "error: " in told
    assert not (tmp_path / "out").exists()


def test_too_few_subjects_are_refused(weights, scorer_dir, tmp_path, capsys):
    Image.new("RGBA", (40, 40), "red").save(tmp_path / "a.png")
    entries = [{"name": f"thing {i}", "file": "a.png", "group": "any", "split": "val"} for i in range(20)]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    with pytest.raises(SystemExit) as stop:
        main(arguments(weights, scorer_dir, tmp_path / "out", "--subjects", tmp_path))
    assert stop.value.code == 2
    assert "at least 21 subjects of split 'val', got 20" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(arguments(weights, scorer_dir, tmp_path / "out", "--subjects", tmp_path, "--kinds", "four"))
    assert "at least 23 subjects of split 'val', got 20" in capsys.readouterr().err
