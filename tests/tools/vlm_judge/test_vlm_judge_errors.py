"""What cannot work is told before a model is loaded, or when the endpoint is gone."""

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from tests.tools.language_models.openai_server import serving
from tests.tools.vlm_judge.evaluation import CASES, error, kind, words
from uno_jax.support.folder_lock import locked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, line: [*line, "--evaluation", "nowhere"], "no directory nowhere"),
        (lambda folder, line: (folder / "scores.json").unlink() or line, "scores.json cannot be read"),
        (
            lambda folder, line: tear(folder / "scores.json", line),
            "scores.json is not readable JSON: .*; expected an evaluation",
        ),
        (lambda folder, line: put(folder / "scores.json", {"single": 1}, line), "rows Field required"),
        (lambda folder, line: put(folder / "scores.json", {"rows": []}, line), "rows List should have"),
        (
            lambda folder, line: tear(folder / "prompts.json", line),
            "prompts.json is not readable JSON.*; expected a list",
        ),
        (lambda folder, line: put(folder / "prompts.json", entries("other"), line), "run uno_jax.evaluate"),
        (lambda folder, line: put(folder / "prompts.json", [{"prompt": "a"}], line), "entry 0: no reference"),
        (lambda folder, line: (folder / "prompts.json").unlink() or line, "prompts.json cannot be read"),
        (lambda folder, line: (folder / "1_0.png").unlink() or line, "missing 1 of 3 pictures: .*1_0"),
        (
            lambda folder, line: shutil.rmtree(folder.parent / "photos/can") or line,
            "missing 1 of 3 references: ",
        ),
        (lambda _, line: [*line, "--rounds", "0"], "--rounds must be at least 1, got 0"),
        (lambda _, line: [*line, "--temperature", "0"], "--rounds 3 at --temperature 0"),
        (lambda _, line: [*line, "--batch-size", "0"], "--batch-size must be at least 1"),
        (lambda _, line: [*line, "--model", ""], "judge.model is empty"),
        (lambda folder, line: [*line, "--list", str(folder / "prompts.json")], "either --evaluation DIR"),
        (lambda folder, line: [*line[:-2], "--list", str(folder / "prompts.json")], "--list needs --pict"),
        (lambda folder, line: [*line[:-2], "--list", "none.json", "--pictures", str(folder)], "none.json"),
        (lambda _, line: [*line, "--num-images", "0"], "--num-images must be at least 1"),
    ],
)
def test_what_cannot_work_is_told_before_a_model_is_loaded(drawn, capsys, monkeypatch, change, message):
    monkeypatch.setattr(
        "tools.vlm_judge.judge.load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    line = change(drawn, words("http://localhost:9/v1", "--evaluation", drawn))
    assert re.search(message, " ".join(error(capsys, line).split()))


def tear(path: Path, line: list[str]) -> list[str]:
    path.write_bytes(path.read_bytes()[:-20])
    return line


def put(path: Path, content: object, line: list[str]) -> list[str]:
    path.write_text(json.dumps(content))
    return line


def entries(prompt: str) -> list[dict]:
    return [{"prompt": prompt, "image_paths": ["photos/can/01.jpg"]}] * len(CASES)


def test_an_endpoint_that_is_down_is_told(drawn, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        told = error(capsys, words(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", "--evaluation", drawn))
    assert "cannot be reached" in told and "scripted at" in told


def test_two_judges_do_not_write_at_once(drawn, capsys):
    with serving(kind) as server, locked(drawn):
        assert f"{drawn} is in use by `" in error(capsys, words(server, "--evaluation", drawn))
    assert not server.requests
