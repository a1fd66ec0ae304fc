"""The judge of likeness in three rounds: by a scripted endpoint, and by a vision-language model in torch."""

import base64
import io
import json
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.tools.language_models.openai_server import Reply, obliging, said, serving
from tests.tools.language_models.tiny_vision import llava_config
from tools.common.manifest import Failed, Job, Row, identity
from tools.language_models.config import ModelConfig
from tools.language_models.conversation import Message
from tools.language_models.load import load_model
from tools.synthesize_data.__main__ import main
from tools.synthesize_data.config import FilterVlmConfig, SynthConfig
from tools.synthesize_data.pipeline.image_files import load_image, save_image
from tools.synthesize_data.stages import filter_vlm


def named(*parts: str) -> str:
    """An answer of the first round."""
    return json.dumps({"subject": "mug", "parts": parts})


def scored(*scores: tuple[str, float]) -> str:
    """An answer of the third."""
    return json.dumps({"scores": [{"part": part, "score": score} for part, score in scores]})


MUG = named("body", "handle", '"HELLO"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run's folder with a red and a blue picture and one that is none."""
    folder = tmp_path_factory.mktemp("run")
    for name, colour in (("red", (200, 10, 10)), ("blue", (10, 10, 200))):
        save_image(Image.new("RGB", (48, 32), colour), folder, "split", f"{name}id", name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def job(first="pictures/split/re/redid_red.png", second="pictures/split/bl/blueid_blue.png") -> Job:
    return Job(
        "id", {"parent": "p", "kind": "single", "first": first, "second": second, "subject": "red mug"}
    )


def judge(server, **changes) -> SynthConfig:
    model = ModelConfig(**{"model": "m", "endpoint": server.url, "temperature": 0.0, "retries": 0, **changes})
    return SynthConfig(filter_vlm=FilterVlmConfig(model=model))


def judged(config: SynthConfig, folder, *jobs: Job) -> list:
    return filter_vlm.worker(config, folder)(list(jobs))


def test_three_rounds_of_one_conversation_give_parts_and_their_mean(folder):
    scores = (("the Handle", 1), ('"hello"', 4), ("body", 3))
    with serving(partial(obliging, subject=MUG, scores=scored(*scores))) as server:
        (result,) = judged(judge(server), folder, job())
    assert result["subject"] == "mug"
    assert [(part["part"], part["score"]) for part in result["parts"]] == [
        ("body", 3),
        ("handle", 1),
        ('"HELLO"', 4),
    ]
    assert result["score"] == pytest.approx(8 / 3)
    assert [len(request["messages"]) for request in server.requests] == [1, 3, 5]
    assert "described as: red mug" in said(server.requests[0]["messages"][0])
    # The form of the answer is shown with single braces.
    assert all("{{" not in said(message) for message in server.requests[-1]["messages"])


def test_the_model_sees_both_pictures_in_their_order(folder):
    with serving(obliging) as server:
        judged(judge(server), folder, job())
    for request in server.requests:
        first, second, text = request["messages"][0]["content"]
        shown = [
            Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition("base64,")[2])))
            for part in (first, second)
        ]
        means = [np.asarray(picture).mean((0, 1)).round() for picture in shown]
        assert np.abs(means - np.array([[200, 10, 10], [10, 10, 200]])).max() <= 3
        assert shown[0].size == (48, 32) and text["type"] == "text"


@pytest.mark.parametrize(
    "answers, reason",
    [
        ({"subject": named()}, "parts .*at least 1"),
        ({"subject": named(" ")}, r"parts\[0\] .*pattern"),
        ({"subject": named(*"abcdefghijklm")}, "parts .*at most 12"),
        ({"differences": '{"differences": []}'}, "nothing about 'body'"),
        ({"scores": scored(("body", 4))}, "nothing about 'handle'"),
        ({"subject": named("a lid"), "scores": scored(("lid", 5))}, r"scores\[0\].score .*or equal to 4"),
        ({"subject": named("lid"), "scores": scored(("lid", -1))}, r"scores\[0\].score .*or equal to 0"),
        ({"subject": named("lid"), "scores": scored(("lid", 3.5))}, r"scores\[0\].score .*integer"),
        ({"subject": named("lid"), "scores": scored(("lid", 3), ("leg", 3))}, "'leg' is none of"),
        ({"subject": named("lid"), "scores": scored(("lid", 3), ("Lid", 4))}, "a part comes twice"),
    ],
)
def test_answers_that_do_not_fit_the_parts_are_asked_again_then_fail(folder, answers, reason):
    with serving(partial(obliging, **answers)) as server:
        (result,) = judged(judge(server, attempts=2), folder, job())
    assert isinstance(result, Failed) and re.search(reason, result.reason), result
    depths = [len(request["messages"]) for request in server.requests]
    assert depths[-1] == depths[-2] + 2 and len(depths) == depths[-2] // 2 + 2


def test_a_part_that_is_named_twice_counts_once(folder):
    with serving(partial(obliging, subject=named("lid", "The lid", "leg"))) as server:
        (result,) = judged(judge(server), folder, job())
    assert len(result["parts"]) == 2 and result["score"] == 4


def test_a_pair_that_fails_leaves_the_others_alone(folder):
    def first_subject_is_refused(request):
        return Reply(status=400) if "bad one" in said(request["messages"][0]) else obliging(request)

    bad = job()._replace(inputs={**job().inputs, "subject": "bad one"})
    jobs = [job(second="none.png"), job(), bad, job(first="broken.png"), job()]
    with serving(first_subject_is_refused) as server:
        results = judged(judge(server), folder, *jobs)
    assert [isinstance(result, Failed) for result in results] == [True, False, True, True, False]
    assert "none.png is not a readable picture" in results[0].reason
    assert "refused" in results[2].reason
    assert len(server.requests) == 1 + 2 * 3


def test_verdicts_follow_the_threshold_which_is_no_part_of_a_row():
    row = Row("id", {}, {"subject": "m", "parts": [], "score": 3.5})
    strict, mild = (SynthConfig(filter_vlm=FilterVlmConfig(threshold=limit)) for limit in (4.0, 3.5))
    assert filter_vlm.STAGE.verdict(strict, row) == "parts differ: mean score 3.50 is below 4"
    assert filter_vlm.STAGE.verdict(mild, row) == ""
    ids = {identity("filter-vlm", filter_vlm.STAGE.settings(config), {}) for config in (strict, mild)}
    other = SynthConfig(filter_vlm=FilterVlmConfig(model=ModelConfig(model="other")))
    assert len(ids) == 1 and identity("filter-vlm", filter_vlm.STAGE.settings(other), {}) not in ids


def test_a_judge_that_cannot_be_asked_is_told_before_the_first_stage_begins(folder, capsys, monkeypatch):
    """Not after hours of generating."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for arguments, message in (
        ((), "filter_vlm.model.model is empty"),
        (("--filter-vlm.model.model", "judge"), "filter_vlm.model.endpoint is empty"),
    ):
        flux = ("run", "--config", "flux", "--run", str(folder / "run"), "--subjects.backend", "template")
        with pytest.raises(SystemExit) as stop:
            main([*flux, "--scenes.backend", "template", *arguments])
        assert stop.value.code == 2 and message in capsys.readouterr().err
        assert not (folder / "run").exists()


def test_a_local_models_nonsense_fails_the_pair_with_its_beginning(llava, folder):
    config = SynthConfig(filter_vlm=FilterVlmConfig(model=llava_config(llava, attempts=2)))
    results = judged(config, folder, job(), job(second="none.png"), job())
    assert ["no usable answer" in results[index].reason for index in (0, 1, 2)] == [True, False, True]
    assert "it begins" in results[0].reason


def test_a_local_model_looks_at_the_pictures(llava, folder):
    model = load_model(llava_config(llava, max_tokens=8), "cpu", "filter_vlm.model", vision=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    red = load_image(folder, job().inputs["first"])
    seen = [(Message("user", "What?", (picture, red)),) for picture in (red, noise)]
    one, other = model(seen)
    assert one != other
    assert model(seen[:1]) == [one]
