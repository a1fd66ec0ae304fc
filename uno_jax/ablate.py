"""`uno-ablate`, `python -m uno_jax.ablate --config FILE --out DIR`: a grid of trainings and evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, UseAppendAction

from uno_jax.ablation.grid import check_seeds, load_ablation
from uno_jax.ablation.run import choose, run_ablation, write_table
from uno_jax.support.atomic import check_output_folder
from uno_jax.support.bounds import Seed
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.folder_lock import locked
from uno_jax.support.words import counted


@dataclass(frozen=True, kw_only=True)
class Args:
    """Train every variant's stages and evaluate its LoRA, each in a process of its own; write one table
    beside the paper's. Equal stages are trained once, and the same command again does what is missing.
    """

    config: str
    """File with get_config() -> Ablation, or the name of a shipped one."""
    out: Path
    """Directory for the jobs and the table."""
    only: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Name of a variant to run; repeatable. The default runs all of them."""
    seeds: tuple[Seed, ...] = ()
    """Seeds with which every variant is trained, in place of the file's: --seeds 0 1 2. Scores are then
    means, and intervals hold over seeds and prompts.
    """
    table: Annotated[bool, FlagCreatePairsOff] = False
    """Write the table of what is finished, of all variants, and nothing else."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-ablate`."""
    args = parse_args(Args, "uno-ablate", argv)
    with exit_on(ValueError, OSError):
        ablation = load_ablation(args.config)
        if args.seeds:
            check_seeds(args.seeds)
            ablation = replace(ablation, seeds=args.seeds)
        check_output_folder("--out", args.out)
        if args.table:
            choose(ablation, args.only)  # refuses unknown names
            scored = write_table(ablation, args.out)
        else:
            with locked(args.out):
                scored = run_ablation(ablation, args.out, args.only)
        print((args.out / "table.md").read_text(encoding="utf-8"))
        files = f"{args.out / 'table.md'} and {args.out / 'table.json'}"
        print(f"wrote {files} ({scored} of {counted(len(ablation.variants), 'variant')} evaluated)")


if __name__ == "__main__":
    main()
