"""Arguments that `uno-ablate` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_folders
from uno_jax.ablate import main

OUT = ["--out", "new"]
GRID = ["--config", "small_ablation.py"]
CASES = [
    *(([*GRID, *words], message) for words, message in bad_folders("--out")),
    ([], "Missing from uno-ablate"),
    (GRID, "Missing from uno-ablate: --out"),
    (OUT, "Missing from uno-ablate: --config"),
    (["--config", "", *OUT], "the name of the recipe is empty"),
    (["--config", "none.py", *OUT], "no ablation none.py: expected a file"),
    (["--config", "empty", *OUT], "no ablation empty"),
    (["--config", LONG * 20, *OUT], "File name too long"),
    (
        ["--config", "recipe.py", *OUT],
        "must define get_config() that returns a uno_jax.ablation.grid.A",
    ),
    (["--config", "syntax.py", *OUT], "syntax.py, line 1, is not Python"),
    (["--config", "raises.py", *OUT], "raises.py, line 3, fails: KeyError"),
    (["--config", "a.png", *OUT], "a.png is not Python"),
    (
        [*GRID, *OUT, "--only", "nobody"],
        "no variant nobody. There are: diagonal; none; width only; height",
    ),
    ([*GRID, *OUT, "--only", "nobody", "--table"], "no variant nobody."),
    ([*GRID, *OUT], "no scorer weights weights/scorer/efficientnet: make them with uno-convert"),
    ([*GRID, *OUT, "more"], "Unrecognized options: more"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
