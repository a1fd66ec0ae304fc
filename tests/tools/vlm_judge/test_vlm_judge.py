"""The judge by a vision-language model: what it is shown, what becomes of its answers, what is never asked
twice; by a scripted endpoint and by a model in torch.
"""

import base64
import io
import json
import math
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.evaluation import tiny_dreambench, tiny_lists
from tests.tools.language_models.openai_server import Reply, said, serving
from tests.tools.language_models.tiny_vision import llava_config
from tests.tools.vlm_judge.evaluation import (
    CASES,
    COLOURS,
    NAMES,
    draw,
    error,
    judged,
    kind,
    question,
    verdict,
    words,
    write_scores,
)
from tools.common.manifest import Failed
from tools.language_models.questions import Malformed
from tools.vlm_judge.__main__ import main
from tools.vlm_judge.cases import evaluation_cases
from tools.vlm_judge.forms import WORDING, read_verdict
from tools.vlm_judge.judge import Judge, JudgeConfig, round_jobs
from uno_jax.evaluate import main as evaluate
from uno_jax.support.digests import file_hash


def test_scores_are_geometric_means_of_rounds_then_of_groups(drawn):
    with serving(kind) as server:
        found = judged(drawn, server, "--rounds", 2)
    single = (math.sqrt(2 * 9) + math.sqrt(4 * 9)) / 2
    pair, worst = ((math.sqrt(2 * each) + math.sqrt(4 * each)) / 2 for each in (6.5, 4))
    rows = found["rows"]
    assert [row["picture"] for row in rows] == ["0_0.png", "1_0.png", "2_0.png"]
    assert [row["score"] for row in rows] == pytest.approx([single, single, pair])
    assert [row["score_worst"] for row in rows] == pytest.approx([single, single, worst])
    assert [row["consistency"] for row in rows] == [9, 9, 6.5] and rows[2]["consistency_worst"] == 4
    assert rows[2]["rounds"][1] == {"reasons": "because", "instruction": 4, "subjects": [9, 4]}
    score = found["scores"]["score"]
    assert score["groups"] == pytest.approx({"backpack": single, "cat+can": pair})
    assert score["mean"] == pytest.approx((single + pair) / 2)  # of groups, not of pictures
    assert found["scores"]["instruction"] == {
        "mean": 3,
        "spread": pytest.approx(math.sqrt(2)),
        "rounds": [2, 4],
        "groups": {"backpack": 3, "cat+can": 3},
    }
    assert (found["pictures"], found["answers"], found["malformed"], found["failed"]) == (3, 6, 0, 0)
    assert found["settings"]["rounds"] == 2 and found["settings"]["vlm"]["model"] == "scripted"
    assert found["settings"]["wording"] == WORDING


def test_one_round_has_no_spread_and_may_be_at_temperature_0(drawn):
    with serving(kind) as server:
        found = judged(drawn, server, "--rounds", 1, "--temperature", 0)
    assert found["scores"]["score"]["spread"] is None
    assert {request["temperature"] for request in server.requests} == {0}


def shown(request: dict) -> list[Image.Image]:
    urls = [part["image_url"]["url"] for part in request["messages"][0]["content"][:-1]]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) for url in urls]


def test_the_model_sees_references_in_order_then_the_picture_upright_and_no_larger_than_asked(drawn, photos):
    path = photos / "cat" / NAMES["cat"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (80, 40), COLOURS["cat"]).save(path, quality=95, exif=exif)
    with serving(kind) as server:
        judged(drawn, server, "--rounds", 1, "--side", 36)
    seen = shown(next(request for request in server.requests if question(request)[0] == CASES[2][0]))
    means = [np.asarray(picture).mean((0, 1)) for picture in seen]
    assert np.abs(means - np.array([COLOURS["cat"], COLOURS["can"], (150, 150, 150)])).max() <= 3
    assert [picture.size for picture in seen] == [(18, 36), (36, 27), (24, 24)]


def test_nothing_is_asked_twice(drawn, tmp_path):
    with serving(kind) as server:
        first = judged(drawn, server, "--rounds", 2)
        assert len(server.requests) == 6
        assert judged(drawn, server, "--rounds", 2) == first and len(server.requests) == 6
        assert judged(drawn, server)["answers"] == 9 and len(server.requests) == 9  # the third round alone
        shutil.move(drawn, tmp_path / "moved")
        judged(tmp_path / "moved", server)
        assert len(server.requests) == 9
        Image.new("RGB", (24, 24), "white").save(tmp_path / "moved/1_0.png")
        judged(tmp_path / "moved", server)
        assert [question(request)[0] for request in server.requests[9:]] == [CASES[1][0]] * 3
        judged(tmp_path / "moved", server, "--model", "another")
        judged(tmp_path / "moved", server, "--side", "20")
        assert len(server.requests) == 12 + 9 + 9
    lines = (tmp_path / "moved/judge.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 30


def test_a_picture_that_comes_twice_is_asked_about_once(photos, tmp_path):
    draw(tmp_path / "pictures", count=2)
    shutil.copy(tmp_path / "pictures/0_0.png", tmp_path / "pictures/0_1.png")
    one = [{"prompt": CASES[0][0], "image_path": f"photos/backpack/{NAMES['backpack']}"}]
    (tmp_path / "list.json").write_text(json.dumps(one))
    line = ("--list", tmp_path / "list.json", "--pictures", tmp_path / "pictures", "--num-images", 2)
    with serving(kind) as server:
        main(words(server, *line))
    found = json.loads((tmp_path / "pictures/judge.json").read_text())
    assert len(server.requests) == 3 and found["pictures"] == 2 and found["answers"] == 6


def test_a_killed_run_goes_on_and_ends_with_the_same_file(drawn, tmp_path, capsys):
    with serving(kind) as server:
        judged(drawn, server, "--out", drawn)
        whole = (drawn / "judge.json").read_bytes()
        for name in ("judge.json", "judge.jsonl"):
            (drawn / name).unlink()
    left = iter(range(4))

    def dies_after_four(request):
        return kind(request) if next(left, None) is not None else Reply(drop=True)

    one_by_one = ("--evaluation", drawn, "--batch-size", 1)
    with serving(dies_after_four) as server:
        told = error(capsys, words(server, *one_by_one))
    assert "cannot be reached" in told and "the same command continues" in told
    assert not (drawn / "judge.json").exists()
    with (drawn / "judge.jsonl").open("a") as file:
        file.write('{"id": "torn')
    with serving(kind) as server:
        main(words(server, *one_by_one))
        main(words(server, *one_by_one))
    assert len(server.requests) == 5
    assert (drawn / "judge.json").read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (verdict(5, 5), "subjects holds 1 numbers, one for each of 2"),
        (verdict(5, 5, 5, 5), "subjects holds 3 numbers"),
        (verdict(11, 5, 5), "instruction .*equal to 10"),
        (verdict(5, 5, -1), r"subjects\[1\] .*equal to 0"),
        (verdict(math.nan, 5, 5), "instruction"),
        (verdict(True, 5, 5), "instruction .*valid number"),
        (verdict(5, 5, 5, reasons=["a"]), "reasons .*string"),
        ('{"instruction": 5, "subjects": [5, 5]}', "reasons Field required"),
        ('{"reasons": "so", "instruction": "5", "subjects": [5, 5]}', "instruction .*valid number"),
        ("7/10", "Invalid JSON"),
    ],
)
def test_malformed_answers(text, message):
    with pytest.raises(Malformed, match=message):
        read_verdict(2, text)


def test_a_malformed_answer_is_asked_again_then_left_out_and_counted(drawn, capsys):
    """The first picture mends its second answer, the second has two rounds, the third has none."""

    def unsure(request):
        prompt, _, number = question(request)
        asked_again = len(request["messages"]) > 1
        bad = {CASES[0][0]: not asked_again, CASES[1][0]: number == 3, CASES[2][0]: True}[prompt]
        return "8 out of 10, I think" if bad else kind(request)

    with serving(unsure) as server:
        found = judged(drawn, server, "--attempts", 2)
        assert len(server.requests) == 3 * 2 + (2 + 2) + 3 * 2
        assert judged(drawn, server, "--attempts", 2) == found and len(server.requests) == 16
    assert (found["answers"], found["malformed"], found["failed"]) == (5, 4, 0)
    assert "'8 out of 10, I think'" in found["reasons"][0]
    first, second, third = found["rows"]
    assert (first["instruction"], second["instruction"], third["instruction"]) == (4, 3, None)
    assert "failed" in second["rounds"][2] and third["score"] is None
    scores = found["scores"]["instruction"]
    assert scores["groups"] == {"backpack": 3.5} and scores["rounds"] == [2, 4, 6]
    assert "4 answers malformed" in capsys.readouterr().out
    with serving(kind) as server:
        mended = judged(drawn, server, "--attempts", 2, "--retry-failed")
    assert len(server.requests) == 4 and mended["answers"] == 9 and mended["malformed"] == 0


def test_an_endpoint_that_is_busy_or_refuses_is_not_malformed(drawn):
    """Too many requests: the client asks again; a refusal fails that round alone."""
    busy = iter(range(2))

    def moody(request):
        if next(busy, None) is not None:
            return Reply(status=429)
        return Reply(status=400) if question(request)[0] == CASES[1][0] else kind(request)

    with serving(moody) as server:
        found = judged(drawn, server, "--retries", 3)
    assert (found["answers"], found["malformed"], found["failed"]) == (6, 0, 3)
    assert "refused" in found["reasons"][0] and len(server.requests) == 2 + 9


def test_pictures_that_cannot_be_read_fail_alone(drawn, photos):
    (drawn / "0_0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (photos / "can" / NAMES["can"]).write_bytes(b"none")
    with serving(kind) as server:
        found = judged(drawn, server)
    assert len(server.requests) == 3 and found["failed"] == 6
    assert ["0_0.png" in reason or "01.jpg" in reason for reason in found["reasons"]] == [True, True]
    assert [row["score"] is None for row in found["rows"]] == [True, False, True]


def test_no_usable_answer_at_all_is_an_error(drawn, capsys):
    with serving(lambda _: "?") as server:
        told = error(capsys, words(server, "--evaluation", drawn, "--attempts", 1))
    assert "no usable answer to 9 questions" in told and "begins '?'" in told
    assert not (drawn / "judge.json").exists()


def test_an_evaluation_of_given_pictures_takes_references_from_data(drawn, photos, tmp_path):
    """As of --score-only: the pictures are elsewhere."""
    scored = tmp_path / "scored"
    scored.mkdir()
    shutil.copy(drawn / "prompts.json", scored)
    write_scores(scored, pictures=str(drawn))
    assert evaluation_cases(scored, photos, None) == evaluation_cases(drawn, None, None)
    write_scores(scored, pictures="gone")
    assert evaluation_cases(scored, photos, drawn) == evaluation_cases(drawn, None, None)


@pytest.fixture
def listed(tmp_path):
    """What the suite list leaves of given pictures, two of one kind and one of another."""
    (tmp_path / "given").mkdir()
    for index in range(3):
        Image.new("RGB", (32, 32), (40 * index,) * 3).save(tmp_path / f"given/{index}_0.png")
    words = ("--lists", tiny_lists.write_jsonl(tmp_path), "--score-only", tmp_path / "given")
    evaluate([str(word) for word in ("--suite", "list", *words, "--out", tmp_path / "list")])
    return tmp_path / "list"


def context(request: dict) -> str:
    """9 for following; for consistency 4, or 1 where the scene counts."""
    text = said(request["messages"][0])
    score = 9 if "what the text asks" in text else 1 if "place or background" in text else 4
    return json.dumps({"reasons": "because", "score": score})


def test_prompt_following_and_consistency_are_asked_apart(listed, capsys):
    with serving(context) as server:
        found = judged(listed, server, "--form", "context", "--rounds", 2)
        assert len(server.requests) == 3 * 2 * 2
        assert judged(listed, server, "--form", "context", "--rounds", 2) == found
        assert len(server.requests) == 12
    assert [row["score"] for row in found["rows"]] == [6, 3, 3]
    assert found["rows"][1]["rounds"][0] == {
        "following": {"reasons": "because", "score": 9},
        "consistency in scene": {"reasons": "because", "score": 1},
    }
    scores = found["scores"]
    assert scores["score"]["groups"] == {"single_object": 6, "scene_object": 3}
    assert scores["score"]["mean"] == 4.5  # of kinds, not of pictures
    assert (scores["following"]["mean"], scores["consistency"]["mean"]) == (9, 2.5)
    assert found["settings"]["form"] == "context"
    assert found["settings"]["wording"].keys() == {"following", "consistency", "consistency in scene"}
    table = capsys.readouterr().out
    assert re.search(r"scene_object +9.00 +1.00 +3.00\nmean +9.00 +2.50 +4.50\n.*compare only with", table)


def test_a_round_with_one_of_two_answers_does_not_count(listed):
    def unsure(request):
        return "?" if "what the text asks" in said(request["messages"][0]) else context(request)

    with serving(
        lambda request: "?" if "beach" in said(request["messages"][0]) else context(request)
    ) as server:
        found = judged(listed, server, "--form", "context", "--rounds", 1, "--attempts", 1)
    assert found["scores"]["score"]["groups"] == {"scene_object": 3} and found["malformed"] == 2
    assert "failed" in found["rows"][0]["rounds"][0] and found["rows"][0]["score"] is None
    (listed / "judge.json").unlink()
    with serving(unsure) as server, pytest.raises(SystemExit):
        judged(listed, server, "--form", "context", "--rounds", 1, "--attempts", 1, "--model", "other")
    assert not (listed / "judge.json").exists()


def test_both_forms_judge_one_list(listed):
    with serving(lambda request: verdict(9, *[4] * question(request)[1])) as server:
        found = judged(listed, server, "--rounds", 1)
    assert found["scores"]["score"]["groups"] == {"single_object": 6, "scene_object": 6}
    assert found["rows"][1]["subjects"] == ["reference 1", "reference 2"]


@pytest.mark.slow
def test_what_evaluate_writes_can_be_judged(tmp_path):
    """`uno_jax.evaluate --score-only --lists` itself, with tiny encoders."""
    encoders = tiny_dreambench.write_encoders(tmp_path / "encoders", tiny_dreambench.make_modules())
    data = tiny_dreambench.write_photos(tmp_path / "data")
    lists = tiny_dreambench.write_list(tmp_path / "list.json")
    (tmp_path / "given").mkdir()
    for index in range(5):
        Image.new("RGB", (32, 32), (40 * index,) * 3).save(tmp_path / f"given/{index}_0.png")
    places = ("--data", data, "--lists", lists, "--encoders", encoders, "--score-only", tmp_path / "given")
    line = ("--suite", "dreambench-multi", *places, "--out", tmp_path / "out")
    evaluate([str(word) for word in line])
    with serving(lambda request: verdict(5, *[5] * question(request)[1])) as server:
        found = judged(tmp_path / "out", server, "--rounds", 1)
    scores = json.loads((tmp_path / "out/scores.json").read_text())["scores"]
    assert found["scores"]["score"]["groups"].keys() == scores["dino"]["groups"].keys()
    assert len(server.requests) == 5 and len(shown(server.requests[-1])) > 1


@pytest.mark.slow
def test_a_local_models_nonsense_is_malformed_and_asked_for_once(llava, drawn, capsys, monkeypatch):
    line = ["--evaluation", str(drawn), "--backend", "transformers", "--model", str(llava), "--device", "cpu"]
    line += ["--rounds", "2", "--max-tokens", "4", "--attempts", "1"]
    assert "no usable answer" in error(capsys, line)
    rows = [json.loads(row) for row in (drawn / "judge.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all(row["failed"].startswith("no usable answer") for row in rows)
    monkeypatch.setattr(
        "tools.vlm_judge.judge.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    error(capsys, line)


@pytest.mark.slow
def test_rounds_of_a_local_model_are_drawn_apart_and_can_be_repeated(llava, drawn):
    """Its seed follows from the words, which name the round."""
    config = JudgeConfig(vlm=llava_config(llava, temperature=1.0, max_tokens=8), device="cpu", rounds=2)
    case = evaluation_cases(drawn, None, None)[2]
    files = {file_hash(path): path for path in (case.picture, *case.references)}
    judge = Judge(config, files)
    one, two = round_jobs(case, {path: name for name, path in files.items()}, config)
    answers = [judge.model([judge.make_question(job).conversation]) for job in (one, two, one)]
    assert answers[0] == answers[2] != answers[1]
    assert not isinstance(answers[0][0], Failed)
