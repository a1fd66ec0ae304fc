"""Arguments that `uno-encode` cannot use."""

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.encodings import main

OUT = ["--out", "new"]
RECIPE = ["--config", "recipe.py"]
CASES = [
    *(([*RECIPE, *words], message) for words, message in bad_folders("--out")),
    ([], "no recipe"),
    (RECIPE, "Missing from uno-encode: --out"),
    (OUT, "no recipe"),
    (["--config", "none.py", *OUT], "no recipe none.py"),
    (["--config", "syntax.py", *OUT], "syntax.py, line 1, is not Python"),
    ([*RECIPE, *OUT, "--networks", ""], "--networks must be some of vae,t5,clip, got none"),
    ([*RECIPE, *OUT, "--networks", "t6"], "got t6"),
    ([*RECIPE, *OUT, "--weights", ""], "vae has no weights to encode with"),
    ([*RECIPE, *OUT, "--weights", "none"], "expected none/vae to hold it"),
    ([*RECIPE, *OUT, "--data.path", "none"], "no list of records at none"),
    (
        [*RECIPE, *OUT, "--data.path", "empty"],
        "empty is a directory without pictures: expected a list's file",
    ),
    ([*RECIPE, *OUT, "--data.path", "a.png"], "a.png"),
    ([*RECIPE, *OUT, "--data.path", ""], "data.path is empty"),
    ([*RECIPE, *OUT, "--trainable", "t5/.*"], "the recipe trains t5"),
    ([*RECIPE, *OUT, "--objective", "autoencoder", "--trainable", "vae/.*"], "the autoencoder objective"),
    ([*RECIPE, *OUT, "more"], "Unrecognized options: more"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)
