"""Boxes by GroundingDINO and OWLv2 (tiny, random weights) and by the catalogue, their crops and verdicts."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.judge import draw_two, overlap
from tools.common.errors import ToolError
from tools.common.manifest import Failed, Job, Row
from tools.synthesize_data.config import DetectConfig, SynthConfig
from tools.synthesize_data.judges.catalog_detector import best_window
from tools.synthesize_data.pipeline.image_files import load_image, save_image
from tools.synthesize_data.pipeline.packaged import in_uno_jax
from tools.synthesize_data.stages import detect
from uno_jax.toybox import load_subjects

INNER = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def owl(tmp_path_factory):
    from transformers import CLIPTokenizerFast, Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    torch.manual_seed(0)
    text, vision = INNER | {"max_position_embeddings": 16}, INNER | {"image_size": 64, "patch_size": 16}
    config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)
    tokenizer = CLIPTokenizerFast.from_pretrained(in_uno_jax("tokenizers", "clip"), model_max_length=16)
    folder = tmp_path_factory.mktemp("owl")
    model = Owlv2ForObjectDetection(config)
    for name, parameter in model.named_parameters():
        if "head" in name:
            parameter.data *= 0.05  # else all scores are 0 or 1
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 64, "width": 64}), tokenizer).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import (
        BertConfig,
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        SwinConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    torch.manual_seed(0)
    # The model knows the ends of phrases by these numbers.
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = iter([*letters, *(f"##{letter}" for letter in letters)])
    vocabulary = [special.get(n) or next(words, f"[unused{n}]") for n in range(1100)]
    folder = tmp_path_factory.mktemp("dino")
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4, image_size=64,
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(vocab_size=1100, **INNER),
        num_queries=10, d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, max_text_len=64,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def settings(backend, **changes) -> SynthConfig:
    return SynthConfig(device="cpu", detect=DetectConfig(backend=backend, **changes))


def save_picture(folder, id: str, size=(384, 256)) -> str:
    rng = np.random.default_rng(int(id, 16))
    image = Image.fromarray(rng.integers(0, 255, (4, 6, 3), np.uint8)).resize(size)
    return save_image(image, folder, "split", id)


def jobs_of(folder) -> list[Job]:
    named = [("aa01", "a dog. or two"), ("aa02", "The Cat"), ("aa03", "a kettle " * 20)]
    return [Job(id, {"picture": save_picture(folder, id), "name": name}) for id, name in named]


@pytest.mark.parametrize("backend", ["grounding-dino", "owlv2"])
def test_detectors_of_transformers_find_one_box_in_a_picture(backend, request, tmp_path):
    model = request.getfixturevalue("dino" if backend == "grounding-dino" else "owl")
    worker = detect.STAGE.worker(settings(backend, model=str(model)), tmp_path)
    jobs = jobs_of(tmp_path)
    together = worker([*jobs, Job("aa04", {"picture": "absent.png", "name": "dog"})])
    assert isinstance(together[3], Failed) and "absent.png" in together[3].reason
    for job, result in zip(jobs, together, strict=False):
        assert result["size"] == [384, 256] and 0 < result["score"] <= 1
        if result["box"] is None:
            assert result["crop"] is None
            continue
        x0, y0, x1, y1 = result["box"]
        assert 0 <= x0 < x1 <= 384 and 0 <= y0 < y1 <= 256
        crop = load_image(tmp_path, result["crop"])
        assert crop.width >= x1 - x0 and crop.height >= y1 - y0
        (alone,) = worker([job])
        assert alone["score"] == pytest.approx(result["score"], abs=2e-3)
    assert any(result["box"] for result in together[:3])
    assert len({str(result) for result in together[:3]}) > 1


@pytest.mark.parametrize(
    ("backend", "changes", "message"),
    [
        ("owlv2", {"model": ""}, "detect.model is empty"),
        ("grounding-dino", {"model": "/no/such/model"}, "'/no/such/model' cannot be loaded"),
        ("catalog", {}, "detect.catalog is empty"),
        ("catalog", {"catalog": "/no/such/folder"}, "no /no/such/folder/manifest.json"),
    ],
)
def test_settings_without_a_detector_are_refused(backend, changes, message, tmp_path):
    with pytest.raises(ToolError, match=message):
        detect.STAGE.worker(settings(backend, **changes), tmp_path)


def test_a_negative_margin_is_refused():
    with pytest.raises(ToolError, match=r"detect.margin must be 0 or more, got -0.1"):
        detect.STAGE.check_settings(settings("catalog", margin=-0.1))


def test_a_model_of_another_kind_is_refused(owl, tmp_path):
    with pytest.raises(ToolError, match="is owlv2"):
        detect.STAGE.worker(settings("grounding-dino", model=str(owl)), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON"),
        ('[{"name": "dog"}]', "KeyError 'file'"),
        ('[{"name": "a", "file": "b"}]', "1 missing file"),
    ],
)
def test_a_wrong_manifest_is_told(content, message, tmp_path):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ToolError, match=message):
        detect.STAGE.worker(settings("catalog", catalog=str(tmp_path)), tmp_path)


def test_the_best_window_lies_on_what_speaks_for_it():
    cosine = np.full((10, 10), 0.2, np.float32)
    cosine[4:8, 1:5] = 0.7
    assert best_window(cosine, 1.0) == (4, 8, 1, 5)


@pytest.mark.slow
def test_the_catalogue_finds_drawn_subjects_by_name(tmp_path):
    subjects = load_subjects(split="train")
    jobs, boxes = [], []
    for number in range(8):
        rng = np.random.default_rng([3, number])
        shown = [subjects[at] for at in rng.choice(len(subjects), 2, replace=False)]
        pixels, found = draw_two(rng, shown)
        path = save_image(Image.fromarray(pixels), tmp_path, "split", f"{number:04x}")
        jobs.append(Job(f"{number:04x}", {"picture": path, "name": f"The {shown[0].name.upper()}"}))
        boxes.append(found[0])
    jobs.append(Job("ffff", {"picture": jobs[0].inputs["picture"], "name": "an unheard-of thing"}))
    *results, unknown = detect.STAGE.worker(settings("catalog", catalog="toybox"), tmp_path)(jobs)
    assert isinstance(unknown, Failed) and "'an unheard-of thing' is not in the catalogue" in unknown.reason
    right = [overlap(result["box"], box) >= 0.4 for result, box in zip(results, boxes, strict=True)]
    assert sum(right) >= 6


def test_an_unreadable_picture_of_the_catalogue_fails_its_rows(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps([{"name": "dog", "file": "dog.webp"}]))
    (tmp_path / "dog.webp").write_bytes(b"RIFF")
    jobs = [Job("aa01", {"picture": save_picture(tmp_path, "aa01"), "name": "dog"})]
    (result,) = detect.STAGE.worker(settings("catalog", catalog=str(tmp_path)), tmp_path)(jobs)
    assert isinstance(result, Failed) and "dog.webp is not a readable picture" in result.reason


def test_boxes_are_cut_with_a_margin_inside_the_picture():
    assert detect.clip_box((-5, 10, 40, 90), (64, 64)) == (0, 10, 40, 64)
    assert detect.clip_box((60, 10, 90, 50), (64, 64)) is None
    assert detect.widen_box((0, 20, 40, 60), 0.1, (64, 64)) == (0, 16, 44, 64)


@pytest.mark.parametrize(
    ("box", "score", "reason"),
    [
        ([10, 10, 60, 60], 0.9, ""),
        (None, 0.9, "not found"),
        ([10, 10, 60, 60], 0.2, "score 0.20 is below 0.35"),
        ([10, 10, 20, 20], 0.9, "odd box: 1.0% of the picture, outside 2% to 60%"),
        ([0, 0, 90, 90], 0.9, "outside 2% to 60%"),
        ([0, 0, 100, 20], 0.9, "odd box: 5.0 times as long as wide"),
    ],
)
def test_boxes_that_no_subject_has_are_rejected(box, score, reason):
    row = Row("id", {}, {"box": box, "score": score, "size": [100, 100], "crop": None})
    told = detect.verdict(SynthConfig(), row)
    assert (reason in told) if reason else told == ""
