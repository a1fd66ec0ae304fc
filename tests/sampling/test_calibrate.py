"""`uno-calibrate`: the step ratios of a model, and what leaving steps out costs it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_model import write_model
from uno_jax.calibrate import main
from uno_jax.weights.integrity import check_files
from uno_jax.weights.load import read_model_config


def test_the_command_measures_what_leaving_out_costs_and_writes_it(tmp_path, capsys):
    folder, jobs = write_model(tmp_path / "model"), tmp_path / "jobs.json"
    jobs.write_text(json.dumps([{"prompt": "a can"}, {"prompt": "a cup"}]))
    words = ["--model", str(folder), "--jobs", str(jobs), "--steps", "8", "--lora", "none", "--write"]
    main(words)
    lines = capsys.readouterr().out.splitlines()
    ratios = [float(ratio) for ratio in lines[0].removeprefix("step ratios: ").split(",")]
    assert len(ratios) == 8 and ratios[0] == 1.0
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| 0.")]
    assert [row[0].strip() for row in rows] == ["0.03", "0.06", "0.12", "0.24"]
    assert all(int(row[1].split()[0]) <= 8 and float(row[2]) > 10 for row in rows)
    np.testing.assert_allclose(read_model_config(str(folder)).defaults.step_ratios, ratios, atol=1e-4)
    check_files(folder / "mmdit")  # its digests are those of the new config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--write"], "small is the shipped one"),
        (["--jobs", "none.json"], "no job list"),
        (["--steps", "7"], "a calibration needs 8 steps or more, got 7"),
        (["--jobs", "started.json"], "entry 1 begins with a picture"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, message, tmp_path, monkeypatch, capsys):
    jobs = tmp_path / "jobs.json"
    jobs.write_text('[{"prompt": "a can"}]')
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (128, 128)).save("can.png")
    started = {"prompt": "a can", "start_path": "can.png"}
    Path("started.json").write_text(json.dumps([{"prompt": "a can"}, started]))
    with pytest.raises(SystemExit):
        main(["--jobs", str(jobs), *words])
    assert message in capsys.readouterr().err
