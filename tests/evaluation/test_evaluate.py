"""Evaluation: ranking, swaps and scenes on features made by hand; real composites; the command at large."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import random_params, write_lora, write_model
from uno_jax.evaluate import main
from uno_jax.evaluation.toybox import ranking, scenes
from uno_jax.evaluation.toybox.cases import left_to_right, make_cases
from uno_jax.evaluation.toybox.draw import draw_cases
from uno_jax.evaluation.toybox.ranking import cosines, draw_candidates, first_is_best, similarity, swapped
from uno_jax.evaluation.toybox.scorer import features, load_scorer
from uno_jax.evaluation.toybox.scores import judge_pictures, make_judge, on_white, summarise_verdicts
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.settings import make_settings
from uno_jax.networks.efficientnet import EfficientNetConfig
from uno_jax.toybox import load_subjects
from uno_jax.weights.checkpoint import save_network
from uno_jax.weights.load import load_model

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
    on_left = np.array([True, True, False, False])
    assert swapped(cosine, np.array([[2, 1]]), on_left).tolist() == [False]
    assert swapped(cosine, np.array([[1, 2]]), on_left).tolist() == [True]


def test_crops_lie_in_the_picture_and_half_of_them_on_the_left():
    crops = ranking.cut_crops(np.zeros((64, 64, 3), np.uint8))
    assert {crop.shape for crop in crops} == {(29, 29, 3)} and ranking.ON_LEFT.sum() * 2 == len(crops)


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
    shown = [case.subjects[0] for case in cases.single]
    assert len(set(shown[:5])) == 5 and shown[5:] == shown[:2]
    assert {len(case.references) for case in cases.two} == {2}
    assert all(case.scenes[0] not in case.reference_scenes for case in cases.single + cases.two)
    larger = make_cases(subjects[:5], 7, 48, seed=1)
    assert [case.prompt for case in larger.two] == [case.prompt for case in cases.two]


def test_the_order_of_two_subjects_is_read_from_the_prompt(subjects):
    cases = make_cases(subjects, 40, 32, seed=0).two
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


def test_a_candidate_is_alone_on_white(subjects):
    page = on_white(subjects[0])
    assert page.shape[0] == page.shape[1] and (page[0] == 255).all() and (page[:, -1] == 255).all()
    assert (page != 255).any()


def test_features_do_not_depend_on_the_batch(scorer_dir):
    scorer = load_scorer(scorer_dir)
    pictures = list(np.random.default_rng(0).integers(0, 255, (18, 40, 40, 3), np.uint8))
    many, one = features(scorer, pictures), features(scorer, pictures[17:])
    assert many.content.shape == (18, 32) and many.border.shape == (18, 12)
    np.testing.assert_allclose(many.content[17:], one.content, rtol=1e-5, atol=1e-5)


def test_a_picture_of_the_candidate_itself_is_recognised(scorer_dir, subjects):
    judge = make_judge(load_scorer(scorer_dir), subjects[:24], 32, seed=0)
    cases = make_cases(subjects[:24], 6, 32, seed=0)
    named = {subject.name: subject for subject in subjects}
    perfect = [on_white(named[case.subjects[0]]) for case in cases.single]
    verdicts = judge_pictures(judge, cases.single, perfect, "perfect")
    scores = summarise_verdicts(verdicts)
    assert scores["top1"] == 1 and scores["cosine"] == pytest.approx(1, abs=1e-5)
    scores = summarise_verdicts(judge_pictures(judge, cases.two, [case.target for case in cases.two], "real"))
    assert scores["count"] == 6 and scores["sided"] == sum(left_to_right(c) is not None for c in cases.two)


@pytest.mark.slow
def test_without_references_a_base_model_draws_from_prompt_and_seed_alone(weights, subjects):
    model = load_model(weights / "model", None)
    cases = make_cases(subjects, 2, 64, seed=0).single
    settings = make_settings(model.config, steps=1)
    drawn = draw_cases(model, cases, settings, seed=5, batch_size=2, references=False)
    bare = [replace(case, references=()) for case in cases]
    again = draw_cases(model, bare, settings, seed=5, batch_size=2, references=True)
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))
    other = draw_cases(model, cases, settings, seed=6, batch_size=2, references=False)
    assert (other[0] != drawn[0]).any() and drawn[0].shape == (64, 64, 3)


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
        (["--count", "0"], "--count must be at least 1"),
        (["--model", "absent"], "no model directory absent"),
        (["--lora", "absent.safetensors"], "absent.safetensors"),
        (["--lora", "LORA", "--unope", "d"], "the LoRA was trained with h"),
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
