"""`verify` on the recorded folder, and what it says of folders that do not agree or cannot be computed."""

import re
import shutil

import numpy as np
import pytest

from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import GOLDEN


@pytest.fixture
def folder(tmp_path):
    """The golden folder with only the cheap arrays, or others."""

    def folder(**changes):
        with np.load(GOLDEN / "golden.npz") as recorded:
            arrays = {key: recorded[key] for key in ("t", "t.embedding", "schedule.train.512")}
        shutil.copytree(GOLDEN, tmp_path / "golden")
        np.savez(tmp_path / "golden" / "golden.npz", **arrays | changes)
        return tmp_path / "golden"

    return folder


def limit(key):
    """What the reference's arrays must be reproduced to, as a share of the largest value."""
    exact = {"ids.": 0.0, "schedule.": 1e-9, "train.": 1e-4}
    # An angle of 1000 t moves by 6e-5 with the last place of a frequency: exp differs between libraries.
    return exact.get(key.split(".")[0] + ".", 6e-5 if key == "t.embedding" else 2e-5)


@pytest.mark.slow
def test_the_recorded_folder_is_reproduced(capsys):
    assert run("verify", "--golden", GOLDEN) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: float(line.split()[2]) for line in lines[1:]}
    with np.load(GOLDEN / "golden.npz") as recorded:
        keys = set(recorded)
    assert len(rows) == len(keys & rows.keys()) == 84
    assert re.fullmatch(r"verify: 84 arrays, worst \d\.\de-\d\d", last)
    assert {key: error for key, error in rows.items() if error > limit(key)} == {}


@pytest.mark.slow
def test_one_forward_pass_and_the_autoencoder_are_reproduced(folder, capsys):
    """The part that takes seconds: two references with the LoRA, positions, schedules."""
    with np.load(GOLDEN / "golden.npz") as recorded:
        left_out = re.compile(r"(traj|train)\..*|out\.(?!ref2\.d)")
        arrays = {key: recorded[key] for key in recorded if not left_out.match(key)}
    assert run("verify", "--golden", folder(**arrays)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert len(rows) == 21 and {"out.ref2.d", "ae.moments", "ae.decoded"} <= {key for key, *_ in rows}
    assert {key: error for key, _, error in rows if float(error) > limit(key)} == {}


def test_a_wrong_array_fails(folder, capsys):
    wrong = np.load(GOLDEN / "golden.npz")["schedule.train.512"].copy()
    wrong[500] += 2e-4
    assert run("verify", "--golden", folder(**{"schedule.train.512": wrong})) == 1
    assert "verify: 2 arrays, worst 2.0e-04" in capsys.readouterr().out


@pytest.mark.parametrize("array", [np.zeros(3), np.full(1000, np.nan)])
def test_another_shape_or_no_number_fails(folder, array):
    assert run("verify", "--golden", folder(**{"schedule.train.512": array})) == 1


def test_unknown_and_missing_arrays_are_named(folder, capsys):
    assert run("verify", "--golden", folder(**{"t.other": np.zeros(1)})) == 2
    assert "unknown arrays: t.other" in capsys.readouterr().err


def test_an_output_without_its_input(folder, capsys):
    assert run("verify", "--golden", folder(**{"out.ref0.d": np.zeros(1)})) == 2
    assert "out.ref0.d cannot be computed: the folder lacks img_latent" in capsys.readouterr().err


def test_folders_that_are_none(tmp_path, folder, capsys):
    assert run("verify", "--golden", tmp_path) == 2
    assert "is not a golden folder" in capsys.readouterr().err
    broken = folder()
    (broken / "golden.npz").write_bytes(b"PK\x03\x04 and no more")
    assert run("verify", "--golden", broken) == 2
    assert "golden.npz cannot be read" in capsys.readouterr().err
    np.savez(broken / "golden.npz", t=np.array([object()]))
    assert run("verify", "--golden", broken) == 2
