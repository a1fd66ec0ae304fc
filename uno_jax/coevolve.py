"""`uno-coevolve`, `python -m uno_jax.coevolve --config FILE --out DIR`: a model and its pairs improve in
turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uno_jax.coevolution.config import load_coevolution
from uno_jax.coevolution.plan import plan_coevolution
from uno_jax.coevolution.run import run_coevolution
from uno_jax.reporting.plots import check_matplotlib
from uno_jax.support.atomic import check_output_folder
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.folder_lock import locked


@dataclass(frozen=True, kw_only=True)
class Args:
    """Make pairs with a model, train it on them, draw second references and then the next round's pairs with
    what was trained: UNO's co-evolution of model and data. Each step is done once, in a process of its own;
    the same command again does what is missing.
    """

    config: str
    """File with get_config() -> Coevolution, or the name of a shipped one, such as
    configs/small_coevolution.py.
    """
    out: Path
    """Directory for the steps of each round, the table and its page."""
    plan: str = ""
    """Hardware to plan for in place of running: a GPU such as h100 or several as h100:8, a TPU topology such
    as v5p:2x2x1, or local. Prints every step with its pictures or samples, operations and hours.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-coevolve`."""
    args = parse_args(Args, "uno-coevolve", argv)
    with exit_on(ValueError, OSError):
        config = load_coevolution(args.config)
        if args.plan:
            return plan_coevolution(config, args.plan, args.out)
        check_output_folder("--out", args.out)
        check_matplotlib()
        with locked(args.out):
            run_coevolution(config, args.out)
        print((args.out / "table.md").read_text(encoding="utf-8"))
        print(f"wrote {args.out / 'index.html'}, {args.out / 'table.md'} and {args.out / 'table.json'}")


if __name__ == "__main__":
    main()
