"""The command line of evaluation: `python -m uno_jax.evaluate --suite NAME`.

Suites: "toybox" (the toy world's held-out subjects, `evaluation/toybox_suite.py`), "dreambench-single" and
"dreambench-multi" (the paper's protocol on DreamBooth's photos, `evaluation/dreambench_suite.py`).
"""

import argparse
import sys
from collections.abc import Sequence

from uno_jax.evaluation.dreambench import suite as dreambench_suite
from uno_jax.evaluation.toybox import suite as toybox_suite

SUITES = {
    "toybox": toybox_suite.evaluate,
    "dreambench-single": dreambench_suite.evaluate,
    "dreambench-multi": dreambench_suite.evaluate,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Each suite has settings of its own: --help tells those of the suite that is named."""
    words = list(sys.argv[1:] if argv is None else argv)
    first = argparse.ArgumentParser(prog="python -m uno_jax.evaluate", add_help=False, allow_abbrev=False)
    first.add_argument("--suite", choices=SUITES, default="toybox")
    SUITES[first.parse_known_args(words)[0].suite](words)


if __name__ == "__main__":
    main()
