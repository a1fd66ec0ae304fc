"""Two processes of two simulated devices each, on localhost, against one process of four devices."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.devices import simulated
from tests.tiny_model import write_model
from uno_jax.weights.checkpoint import restore_lora
from uno_jax.weights.lora_files import load_tensors

PHOTOS = Path(__file__).parents[1] / "assets" / "photos"
STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with weights/ of the tiny model, and eight pairs of photos, one of them missing."""
    folder = tmp_path_factory.mktemp("data")
    write_model(folder / "weights")
    for name in (names := ["chelsea", "coffee", "astronaut", "rocket"]):
        Image.open(PHOTOS / f"{name}.jpg").resize((64, 64)).save(folder / f"{name}.jpg")
    pairs = [(a, b) for a in names for b in names if a < b] + [("coffee", "chelsea"), ("missing", "coffee")]
    entries = [
        {"prompt": f"a photo of {a}", "image_paths": [f"{b}.jpg"], "image_tgt_path": f"{a}.jpg"}
        for a, b in pairs
    ]
    (folder / "pairs.json").write_text(json.dumps(entries))
    return folder


def start(data: Path, workdir: Path, devices: int, *processes: str, module="train") -> subprocess.Popen:
    options = {
        "preset": "tiny",
        "weights": str(data / "weights"),
        "workdir": str(workdir),
        "lora.rank": "4",
        "data.path": str(data / "pairs.json"),
        "data.resolution": "64",
        "data.ref-resolution": "32",
        "data.max-bad-share": "0.5",
        "optim.learning-rate": "1e-4",
        "batch-size": "4",
        "steps": str(STEPS),
        "dtype": "float32",
        "remat": "none",
        "log-every": "1",
        "checkpoint-every": "1000",
        "mesh.tensor": "2",
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    config = ["--config", "configs/uno_stage1.py"]
    command = [sys.executable, "-m", f"uno_jax.{module}", *config, *flags, *processes]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=simulated(devices), **pipes)


def start_two(data: Path, workdir: Path, *more: str, module="train") -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    where = ["--processes.coordinator", address, "--processes.count", "2", "--processes.index"]
    return [start(data, workdir, 2, *where, str(index), *more, module=module) for index in range(2)]


def ended(*processes: subprocess.Popen) -> list[str]:
    """The output of each process, all of which must exit with code 0."""
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n\n".join(outputs)
    return outputs


def losses(workdir: Path) -> list[float]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_two_processes_stop_resume_and_train_as_one(data, tmp_path):
    alone = start(data, tmp_path / "alone", 4)
    ended(alone)
    together = start_two(data, tmp_path / "two")
    metrics = tmp_path / "two" / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_text()) and all(p.poll() is None for p in together):
        time.sleep(0.02)
    together[1].send_signal(signal.SIGTERM)
    assert all("stopped after step" in output for output in ended(*together))
    (stopped,) = (int(path.name) for path in (tmp_path / "two" / "checkpoints").iterdir())
    assert 0 < stopped < STEPS
    ended(*start_two(data, tmp_path / "two"))

    expected = losses(tmp_path / "alone")
    assert len(expected) == STEPS
    np.testing.assert_allclose(losses(tmp_path / "two"), expected, rtol=0, atol=1e-5)
    (info, lora), (_, again) = (restore_lora(tmp_path / run / "lora") for run in ("alone", "two"))
    exported = load_tensors(tmp_path / "two" / "dit_lora.safetensors", info.mmdit)[2]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), again, lora)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(a.dtype)), exported, again)


@pytest.mark.slow
def test_two_processes_encode_a_list_together(data, tmp_path):
    def options(out: Path) -> list[str]:
        return ["--out", str(out), "--networks", "t5,clip", "--per-shard", "2"]

    one, two = tmp_path / "one", tmp_path / "two"
    (said,) = ended(start(data, tmp_path, 2, *options(one), module="encodings"))
    outputs = ended(*start_two(data, tmp_path, *options(two), module="encodings"))
    files = {path.name: path.read_bytes() for path in one.iterdir()}
    assert {path.name: path.read_bytes() for path in two.iterdir()} == files and len(files) == 6
    end = "(7 records, 1 left out)"
    assert end in said and all(end in text for text in outputs)
    assert sum("missing.jpg" in text for text in outputs) == 1  # named by the one whose share it is in
