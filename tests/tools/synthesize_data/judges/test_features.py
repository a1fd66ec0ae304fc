"""Features, the filter that compares them, and the judge of parts made of them."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.judge import auc, draw_pairs, judged
from tests.tools.convert_weights.command import run as convert
from tools.common.errors import ToolError
from tools.common.manifest import Failed, Job, Row
from tools.synthesize_data.config import FilterDinoConfig, SecondReferenceConfig, SynthConfig
from tools.synthesize_data.judges.feature_judge import FeatureJudge, part_score
from tools.synthesize_data.judges.features import EfficientNetLite0, border_of
from tools.synthesize_data.pipeline.image_files import save_image
from tools.synthesize_data.presets.small import get_config
from tools.synthesize_data.stages import filter_dino
from uno_jax.evaluation.toybox.scorer import load_scorer
from uno_jax.evaluation.toybox.scorer import preprocess as prepare_as_scored
from uno_jax.networks.registry import apply
from uno_jax.toybox import load_subjects
from uno_jax.toybox.compose import compose

PHOTOS = Path(__file__).resolve().parents[3] / "assets" / "photos"


def picture(seed: int, size=(80, 64)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (5, 5, 3), np.uint8)).resize(size)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dinov2")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    Dinov2Model(Dinov2Config(image_size=56, patch_size=14, **shape)).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}
    BitImageProcessorPil(do_center_crop=True, **sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def network():
    return EfficientNetLite0("cpu")


def pairs_of(folder, seeds) -> list[Job]:
    jobs = []
    for number, both in enumerate(seeds):
        first, second = (
            save_image(picture(seed), folder, "split", f"{number:04x}", str(at))
            for at, seed in enumerate(both, 1)
        )
        inputs = {"first": first, "second": second, "subject": "a vase", "kind": "single"}
        jobs.append(Job(f"{number:04x}", inputs))
    return jobs


@pytest.mark.parametrize("backend", ["dinov2", "efficientnet-lite0"])
def test_pairs_get_the_cosine_of_their_features(backend, request, tmp_path):
    model = str(request.getfixturevalue("dinov2")) if backend == "dinov2" else ""
    config = SynthConfig(device="cpu", filter_dino=FilterDinoConfig(backend=backend, model=model))
    worker = filter_dino.STAGE.worker(config, tmp_path)
    jobs = pairs_of(tmp_path, [(1, 1), (1, 2), (2, 1)])
    broken = Job("dd", {**jobs[0].inputs, "second": "absent.png"})
    same, failed, one, other = worker([jobs[0], broken, *jobs[1:]])
    assert same["cosine"] == pytest.approx(1, abs=1e-3) and same["background"] == pytest.approx(1, abs=1e-3)
    assert one["cosine"] == other["cosine"] < 0.999 and one["background"] < 0.999
    assert isinstance(failed, Failed) and "absent.png is not a readable picture" in failed.reason


def test_both_limits_reject():
    def told(cosine, kind="single", **changes):
        return filter_dino.verdict(SynthConfig(**changes), Row("id", {"kind": kind}, {"cosine": cosine}))

    assert told(0.8) == ""
    assert told(0.5) == "unlike: cosine 0.500 is below 0.6"
    assert told(0.995) == told(0.995, "second") == "a copy: cosine 0.995 is above 0.99"
    crops = {"second_reference": SecondReferenceConfig(crop_as_reference=True)}
    assert told(1.0, "second", **crops) == "" and "a copy" in told(1.0, "single", **crops)


def test_the_border_is_the_outermost_cells():
    cells = np.zeros((2, 4, 5, 3), np.float32)
    cells[0, 1:-1, 1:-1, 0] = 9.0
    cells[0, 0, :, 1] = cells[1, :, -1, 2] = 2.0
    np.testing.assert_allclose(border_of(cells), [[0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("softness", [0, 2])
def test_copied_backgrounds_are_rejected(softness):
    """Of composites: the subject elsewhere in the same scene, drawn anew and as soft as a made picture, and
    in another scene.
    """
    subjects, config = load_subjects(split="train")[::60], get_config()
    comparison = filter_dino.Comparison(config, Path())

    def drawn(scene, seed, subject) -> Image.Image:
        return Image.fromarray(compose(np.random.default_rng(seed), [subject], scene, 128).image)

    def verdicts(second) -> list[str]:
        pairs = [
            (drawn("beach", 2 * n, each), filter_dino.soften(drawn(second, 2 * n + 1, each), softness))
            for n, each in enumerate(subjects)
        ]
        results = [found | {"cosine": 0.9} for found in comparison.compare([], pairs)]
        return [filter_dino.verdict(config, Row("id", {"kind": "single"}, found)) for found in results]

    assert sum(text.startswith("the same background") for text in verdicts("beach")) >= 9
    assert verdicts("bookshelf").count("") >= 9
    assert len(subjects) == 10


def test_a_background_counts_as_sharp_as_the_other_picture_is():
    firsts = [np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1]]
    seconds = np.array([[1, 0], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(filter_dino.background_cosines(firsts, seconds), [1, 0.8])


def test_rows_of_earlier_versions_pass_only_where_borders_do_not_count():
    row = Row("id", {"kind": "single"}, {"cosine": 0.9})
    assert filter_dino.verdict(SynthConfig(), row) == ""
    assert "remove manifest/filter-dino.jsonl" in filter_dino.verdict(get_config(), row)
    second = Row("id", {"kind": "second"}, {"cosine": 0.9})
    assert filter_dino.verdict(get_config(), second) == ""


def test_a_model_without_patches_compares_no_borders(dinov2, tmp_path):
    from transformers import ConvNextConfig, ConvNextModel

    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    ConvNextModel(ConvNextConfig(**sizes)).save_pretrained(tmp_path)
    shutil.copy(dinov2 / "preprocessor_config.json", tmp_path)
    own = FilterDinoConfig(model=str(tmp_path))
    (found,) = filter_dino.STAGE.worker(SynthConfig(device="cpu", filter_dino=own), tmp_path)(
        pairs_of(tmp_path, [(1, 2)])
    )
    assert found.keys() == {"cosine"}
    strict = SynthConfig(device="cpu", filter_dino=dataclasses.replace(own, max_border=0.5))
    with pytest.raises(ToolError, match=r"max_border is 0\.5, but .* has no patches"):
        filter_dino.STAGE.worker(strict, tmp_path)


@pytest.mark.parametrize(
    ("model", "message"), [("", "filter_dino.model is empty"), ("/no/model", "'/no/model' cannot be loaded")]
)
def test_a_model_that_is_not_there_is_told(model, message, tmp_path):
    config = SynthConfig(device="cpu", filter_dino=FilterDinoConfig(model=model))
    with pytest.raises(ToolError, match=message):
        filter_dino.STAGE.worker(config, tmp_path)


@pytest.mark.slow
def test_the_network_is_the_one_that_evaluation_scores_with(network, tmp_path):
    assert convert("efficientnet", "--dst", tmp_path) == 0
    scorer = load_scorer(tmp_path)
    images = [picture(1), picture(2)]
    x = np.stack([prepare_as_scored(np.asarray(image), 96) for image in images])
    _, theirs = jax.jit(lambda params: apply(scorer.config, {"params": params}, x))(scorer.params)
    ours = network.maps(images, 96)
    assert ours.shape == (2, 3, 3, 1280)
    assert np.abs(ours - np.asarray(theirs)).max() < 1e-4 * np.abs(ours).max()


def test_the_judge_gives_scores_of_parts_and_fails_alone(tmp_path):
    judge = FeatureJudge(SynthConfig(device="cpu"), tmp_path)
    cat, rocket = (str(PHOTOS / f"{name}.jpg") for name in ("chelsea", "rocket"))
    jobs = [
        Job(id, {"first": cat, "second": second, "subject": "a vase"})
        for id, second in (("aa", cat), ("bb", rocket))
    ]
    (tmp_path / "broken.png").write_text("nothing")
    same, other, failed = judge([*jobs, Job("dd", {**jobs[0].inputs, "first": "broken.png"})])
    assert same["subject"] == "a vase" and same["score"] == 4 > other["score"]
    assert {part["score"] for part in same["parts"]} == {4}
    assert set(same["parts"][0]) == {"part", "difference", "score"}
    assert other["score"] == np.mean([part["score"] for part in other["parts"]])
    assert isinstance(failed, Failed) and "broken.png" in failed.reason


def test_scores_rise_with_the_cosine_from_0_to_4():
    scores = [part_score(cosine) for cosine in np.linspace(0, 1, 200)]
    assert scores == sorted(scores) and set(scores) == {0, 1, 2, 3, 4}


@pytest.mark.slow
def test_the_judge_tells_drawn_subjects_apart(network):
    """A light instance of benchmarks/judge.py."""
    references, same, other = draw_pairs(network, "val", 1, 1, 12, 5)
    assert auc(judged(references, same)[0], judged(references, other)[0]) > 0.85
