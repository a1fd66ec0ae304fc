"""Arguments that `uno-train` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_folders
from uno_jax.train import main

RECIPE = ["--config", "recipe.py"]
DRAWN = [*RECIPE, "--samples.every", "2", "--samples.jobs"]
# A working directory is a text in recipes: an empty one and a URL are told by the recipe's check.
FOLDERS = [case for case in bad_folders("--workdir") if case[0][1] not in ("", "http://host/folder")]
CASES = [
    *(([*RECIPE, *words], message.replace("--", "")) for words, message in FOLDERS),
    ([*RECIPE, "--workdir", ""], "workdir is empty"),
    ([*RECIPE, "--workdir", "gs://bucket/run"], "workdir gs://bucket/run must be a local folder"),
    (["--config"], "expected one argument"),
    (["--config", ""], "no recipe: pass --config FILE"),
    (["--config", "empty"], "no recipe empty: expected a file"),
    (["--config", "\udcff.py"], "expected a file"),
    (["--config", LONG * 20], "File name too long"),
    (["--config", "syntax.py"], "syntax.py, line 1, is not Python: invalid syntax"),
    (["--config", "raises.py"], "raises.py, line 3, fails: KeyError: 'a'"),
    (["--config", "imports.py"], "imports.py, line 1, fails: ModuleNotFoundError"),
    (["--config", "number.py"], "number.py must define get_config()"),
    (["--config", "a.png"], "a.png is not Python"),
    ([*RECIPE, "--weights", "a.png"], "no model directory a.png"),
    ([*RECIPE, "--weights", "empty"], "mmdit is frozen and has no weights: expected empty/mmdit"),
    ([*RECIPE, "--weights", "lora"], "expected lora/mmdit to hold it"),
    ([*RECIPE, "--weights", LONG * 20], "File name too long"),
    ([*RECIPE, "--data.path", "empty"], "empty is a directory without pictures: expected a list's file"),
    ([*RECIPE, "--data.path", "a.png"], "a.png"),
    ([*RECIPE, "--data.path", LONG * 20], "File name too long"),
    ([*RECIPE, "--data.path", "nosuch://host/list.json"], "nosuch"),
    ([*RECIPE, "--data.encodings", "a.png"], "no encodings at a.png"),
    ([*RECIPE, "--data.encodings", "empty"], "empty has no encodings.json"),
    ([*RECIPE, "--init-lora", "none"], "init_lora: no LoRA at none; train it first"),
    ([*RECIPE, "--init-lora", "a.png"], "a.png"),
    ([*RECIPE, "--init-lora", "model"], "model has no config.json"),
    ([*RECIPE, "--init-run", "none"], "init_run: no checkpoints in none"),
    ([*RECIPE, "--init-run", "a.png"], "init_run: no checkpoints in a.png"),
    ([*RECIPE, "--init-run", "x", "--init-lora", "y"], "give init_lora or init_run, not both"),
    ([*RECIPE, "--trainable"], "trainable is empty"),
    ([*RECIPE, "--trainable", ""], "trainable '' must begin with"),
    ([*RECIPE, "--trainable", "mmdit/none"], "'mmdit/none' matches no parameter"),
    ([*RECIPE, "--lora.single-idx", "99"], "LoRA adapts single_blocks [99]"),
    ([*DRAWN, "empty"], "empty is a directory, expected a file"),
    ([*DRAWN, "a.png"], "a.png"),
    ([*RECIPE, "--mesh.data", "7"], "does not fit"),
    ([*RECIPE, "--base", "int4"], "invalid choice 'int4'"),
    ([*RECIPE, "--export"], "nothing to export: run has no checkpoint"),
    ([*RECIPE, "--plan", "x"], "--plan x: expected local"),
    ([*RECIPE, "--data.sources", "x"], "Unrecognized options"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
