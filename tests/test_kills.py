"""A light instance of `python -m benchmarks.kills`, and what it compares."""

import json
import subprocess
import sys

import pytest

from benchmarks.kills.state import differences, left_over, state_of


@pytest.mark.slow
def test_a_killed_pack_ends_like_an_undisturbed_one(tmp_path):
    line = [
        sys.executable,
        "-m",
        "benchmarks.kills",
        "--out",
        tmp_path,
        "--only",
        "data pack",
        "--kills",
        "3",
    ]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if "data pack" in line)
    name, by, ends, starts, compared, faults, *_ = [cell.strip() for cell in row.split("|")[1:]]
    assert (name, by, ends, faults) == ("data pack", "SIGKILL", "3", "0")
    assert int(starts) > 3 and int(compared) >= 1


def test_times_and_rates_are_not_compared_and_everything_else_is(tmp_path):
    states = []
    for number, more in enumerate(({"loss": 1.0}, {"loss": 1.0}, {"loss": 2.0}, {})):
        folder = tmp_path / str(number)
        (folder / "empty").mkdir(parents=True)
        (folder / "picture.png").write_bytes(b"a")
        lines = [{"step": 1, "images_per_second": number, **more}]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        states.append(state_of(folder))
    assert states[0] == states[1]
    (wrong,) = differences(states[0], states[2])
    assert wrong.startswith("metrics.jsonl")
    (tmp_path / "3" / "picture.png").unlink()
    (tmp_path / "3" / ".picture.png.partial").touch()
    found = state_of(tmp_path / "3")
    assert [line.split(":")[0] for line in differences(states[0], found)] == ["metrics.jsonl", "picture.png"]
    assert left_over(states[0], found) == [".picture.png.partial"]
