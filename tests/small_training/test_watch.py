"""Measurements beside the training: one at a time, the last of a part always, and none of them stops it."""

import io
import threading

import jax.numpy as jnp
import pytest

from uno_jax.evaluation.toybox.cases import make_cases
from uno_jax.families.uno.config import PRESETS
from uno_jax.small_training.watch import Watch, sheet
from uno_jax.toybox import load_subjects

HERE = {"part": "base", "steps": 3}


@pytest.fixture
def watch(tmp_path, monkeypatch):
    done, release = [], threading.Event()

    def measure(self, where, params):
        release.wait(10)
        if where["steps"] < 0:
            raise ValueError("no such step")
        done.append((where["steps"], float(params["mmdit"])))

    monkeypatch.setattr(Watch, "_measure", measure)
    made = Watch(PRESETS["tiny"], "float32", tmp_path, None, None, io.StringIO())
    return made, done, release


def test_one_at_a_time_and_the_last_always(watch):
    made, done, release = watch
    for steps in (1, 2):
        made.submit(HERE | {"steps": steps}, {"mmdit": jnp.float32(steps)})
    release.set()
    made.submit(HERE, {"mmdit": jnp.float32(3)}, last=True)
    made.wait()
    assert done == [(1, 1.0), (3, 3.0)]


def test_a_failure_is_reported_and_the_next_is_measured(watch, capsys):
    made, done, release = watch
    release.set()
    made.submit(HERE | {"steps": -1}, {"mmdit": jnp.float32(0)})
    made.submit(HERE, {"mmdit": jnp.float32(3)}, last=True)
    made.wait()
    assert done == [(3, 3.0)]
    assert "not measured: no such step" in capsys.readouterr().out


def test_a_sheet_has_a_row_for_two_cases():
    cases = make_cases(load_subjects(split="val")[:4], 4, 32, 0)["two"]
    drawn = [case.target for case in cases]
    assert sheet(cases, drawn).size == (2 * 4 * 32, 2 * 32)
