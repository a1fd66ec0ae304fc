"""The root of the package holds thin verbs, and importing it costs nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import uno_jax
from uno_jax.__main__ import COMMANDS, main
from uno_jax.families.model import Model
from uno_jax.families.uno.config import PRESETS, UnoPE

ROOT = Path(uno_jax.__file__).parent
VERBS = sorted(path for path in ROOT.glob("*.py") if path.name[0] != "_")


def test_the_root_holds_the_commands_and_each_is_thin():
    modules = {place.split(".")[1] for place, _ in COMMANDS.values() if place.count(".") == 1}
    assert {path.stem for path in VERBS} == modules
    assert max(len(path.read_text().splitlines()) for path in VERBS) <= 80


def test_importing_the_package_imports_no_jax():
    check = "import sys, uno_jax; print(sorted({'jax', 'flax', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_its_names_are_there_when_they_are_used():
    from uno_jax.sampling.generate import generate
    from uno_jax.weights.load import load_model

    assert (uno_jax.generate, uno_jax.load_model, uno_jax.UnoPE) == (generate, load_model, UnoPE)
    assert {"generate", "load_model", "UnoPE"} <= set(dir(uno_jax))
    with pytest.raises(AttributeError, match="has no attribute 'sample_all'"):
        uno_jax.sample_all  # noqa: B018


def test_one_command_names_them_all(capsys):
    main([])
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main(["draw"])
    assert stop.value.code == 2 and "no command 'draw'; there are sample, train" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["sample", "--help"])
    assert stop.value.code == 0 and "--true-cfg" in capsys.readouterr().out


def test_a_model_shows_itself_in_one_line():
    model = Model(PRESETS["tiny"], {"vae": {"kernel": np.zeros((1000, 500), "float32")}}, UnoPE("h"))
    assert repr(model) == "Model(vae 0.5 M; float32, UnoPE h, offset scale 1)"
