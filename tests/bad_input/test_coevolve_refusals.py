"""Arguments that `uno-coevolve` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_folders
from uno_jax.coevolve import main

OUT = ["--out", "new"]
CONFIG = ["--config", "small_coevolution.py"]
CASES = [
    *(([*CONFIG, *words], message) for words, message in bad_folders("--out")),
    ([], "Missing from uno-coevolve"),
    (CONFIG, "Missing from uno-coevolve: --out"),
    (OUT, "Missing from uno-coevolve: --config"),
    (["--config", "", *OUT], "the name of the recipe is empty"),
    (["--config", "none.py", *OUT], "no coevolution none.py: expected a file"),
    (["--config", LONG * 20, *OUT], "File name too long"),
    (["--config", "recipe.py", *OUT], "must define get_config() that returns a uno_jax.coevolution.config.C"),
    (["--config", "syntax.py", *OUT], "syntax.py, line 1, is not Python"),
    (["--config", "raises.py", *OUT], "raises.py, line 3, fails: KeyError"),
    ([*CONFIG, *OUT, "--plan", "h90"], "--plan h90: expected local, or one of v5e, v5p, v6e, a100-40"),
    ([*CONFIG, *OUT, "--plan", "v5p:many"], "--plan v5p:many: expected local"),
    ([*CONFIG, *OUT, "more"], "Unrecognized options: more"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
