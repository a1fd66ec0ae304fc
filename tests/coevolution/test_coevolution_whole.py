"""A round of the real programs on the tiny model: killed in the middle, gone on with, and shown."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.evaluation.test_evaluate import NETWORK
from tests.tiny_model import random_params, write_model
from uno_jax.weights.checkpoint import save_network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = """
from dataclasses import replace

from uno_jax.coevolution import SINGLE, TWO, Coevolution, Score, load_coevolution
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.families.uno.config import LoraConfig

def get_config():
    small = load_coevolution("small_coevolution")
    kept = ("--split.min-probability", "0", "--filter-dino.threshold", "-1", "--filter-dino.max-cosine", "1",
            "--filter-dino.max-border", "1", "--filter-vlm.threshold", "0", "--detect.threshold", "0")
    sizes = ("--limit", "3", "--diptychs.panels", "32", "32", "--second-reference.size", "32", "32",
             "--export.val-share", "0", "--generate.model", "weights", "--generate.steps", "1",
             "--second-reference.steps", "1", "--diptychs.two", "0")
    def stage(shipped):
        data = replace(shipped.data, resolution=32, ref_resolution=32)
        return replace(shipped, weights="weights", preset="tiny", lora=LoraConfig(rank=4), data=data, steps=1,
                       batch_size=1, precision="", unroll=1, checkpoint_every=1)
    return replace(
        small, model="weights", first=(*small.first, *kept, *sizes), rounds=1, stage1=stage(small.stage1),
        stage2=stage(small.stage2),
        evaluations={"toybox": ("--suite", "toybox", "--kinds", "single", "--count", "2", "--steps", "1",
                                "--scorer", "scorer")})
"""


def test_a_round_that_was_killed_goes_on_to_its_page(tmp_path):
    write_model(tmp_path / "weights")
    save_network(tmp_path / "scorer" / "efficientnet", NETWORK, random_params(NETWORK, 3))
    (tmp_path / "config.py").write_text(CONFIG)
    out = tmp_path / "a folder"
    command = [sys.executable, "-m", "uno_jax.coevolve", "--config", "config.py", "--out", out.name]
    where = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    with subprocess.Popen(command, **where, start_new_session=True, stdout=subprocess.DEVNULL) as first:
        while not (out / "round_1/stage1.json").exists():
            assert first.poll() is None, "it ended before stage I"
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGKILL)
    assert json.loads((out / "round_1/pairs.json").read_text())["result"]["single/train"] == 3
    assert json.loads((out / "round_1/stage1.json").read_text())["result"] is None
    drawn = {
        path: path.stat().st_mtime_ns for path in (out / "round_1/pairs/pictures/generate").rglob("*.png")
    }
    ran = subprocess.run(command, **where, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "round_1/pairs: finished" in ran.stdout
    assert drawn and drawn == {path: path.stat().st_mtime_ns for path in drawn}
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["base", "round 1"] and rows[1]["pairs"]["single"] == 3
    assert {"top-1", "cosine", "scene", "background copied"} == rows[1]["scores"].keys()
    assert "Pairs of round 1" in (out / "index.html").read_text()
