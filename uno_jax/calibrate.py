"""`uno-calibrate`, `python -m uno_jax.calibrate`: what leaving steps out would cost a model."""

from collections.abc import Sequence

from uno_jax.sampling.calibration import CalibrateArgs, calibrate, prepare_calibration
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.errors import CheckpointError, RecipeError
from uno_jax.support.images import ImageError


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-calibrate`."""
    args = parse_args(CalibrateArgs, "uno-calibrate", argv)
    use_compile_cache()
    # Past the checks a ValueError is a fault of this program and keeps its traceback.
    with exit_on(ValueError, OSError):
        prepared = prepare_calibration(args)
    with exit_on(CheckpointError, RecipeError, ImageError, FloatingPointError, OSError):
        for line in calibrate(args, prepared):
            print(line, flush=True)


if __name__ == "__main__":
    main()
