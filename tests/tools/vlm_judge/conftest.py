import json

import pytest
from PIL import Image

from tests.tools.vlm_judge.evaluation import CASES, COLOURS, NAMES, draw, write_scores
from uno_jax.evaluation.dreambench.prompts import Prompt
from uno_jax.evaluation.dreambench.suite import entries_of


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def photos(tmp_path):
    """A photo of each subject in a colour of its own."""
    for name, colour in COLOURS.items():
        path = tmp_path / "photos" / name / NAMES[name]
        path.parent.mkdir(parents=True)
        Image.new("RGB", (40, 30), colour).save(path, quality=95)
    return tmp_path / "photos"


@pytest.fixture
def drawn(photos, tmp_path):
    """What uno_jax.evaluate leaves behind when it has drawn."""
    folder = tmp_path / "evaluation"
    draw(folder)
    prompts = [
        Prompt(prompt, tuple(photos / name / NAMES[name] for name in subjects), subjects, "scene")
        for prompt, subjects in CASES
    ]
    (folder / "prompts.json").write_text(json.dumps(entries_of(prompts)))
    write_scores(folder)
    return folder
