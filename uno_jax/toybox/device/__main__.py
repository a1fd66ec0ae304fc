"""The command line of the bank: draws the backgrounds that the device cuts its pictures from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from uno_jax.support.atomic import refuse_existing
from uno_jax.support.bounds import Bounds, Seed
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.errors import RecipeError
from uno_jax.support.folder_lock import locked_path
from uno_jax.toybox.compose import LARGEST, SMALLEST
from uno_jax.toybox.device.bank import PER_SCENE, SIDE, BankError, draw_bank, save_bank


@dataclass(frozen=True)
class Args:
    """Draw a bank of backgrounds: 370 MB and a minute of one core with the defaults."""

    out: Path = Path("data/backgrounds.npz")
    """File for the bank."""
    per_scene: Annotated[int, Bounds(1, 10_000)] = PER_SCENE
    """Drawings of each of the 24 scenes."""
    side: Annotated[int, Bounds(SMALLEST, LARGEST)] = SIDE
    """Pixels of a side: 1.25 times the pictures' size, or more."""
    seed: Seed = 0
    """Drawing i of a scene depends on the seed, the scene and i alone."""
    processes: Annotated[int, Bounds(1, 1024)] | None = None
    """Processes that draw; one for each core by default."""
    overwrite: bool = False
    """Replace a bank that is there."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "python -m uno_jax.toybox.device", argv)
    with exit_on(BankError, RecipeError, OSError):
        with locked_path(args.out):
            refuse_existing(args.out, args.overwrite)
            bank = draw_bank(args.per_scene, args.side, args.seed, args.processes)
            save_bank(bank, args.out)
        print(f"wrote {args.out}: {bank.pictures.nbytes / 1e6:.0f} MB, {args.per_scene} of each scene")


if __name__ == "__main__":
    main()
