"""`uno-encode`, `python -m uno_jax.encodings --config RECIPE --out DIR`: encode a recipe's lists once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uno_jax.data.cached_encodings import read_encodings, read_info
from uno_jax.sharding.processes import join_processes, locked_by_first, wait_for_all
from uno_jax.support.atomic import check_output_folder, check_utf8
from uno_jax.support.bounds import Count
from uno_jax.support.command_line import exit_on
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.folder_lock import locked
from uno_jax.support.words import counted
from uno_jax.training.config_check import check_recipe
from uno_jax.training.encode_dataset import encode_lists
from uno_jax.training.recipes import RecipeArgs, parse_recipe_args


@dataclass(frozen=True, kw_only=True)
class Args(RecipeArgs):
    """Encode a recipe's lists once, to train from with --data.encodings."""

    out: Path
    """Directory for the encodings; later --data.encodings."""
    networks: str | None = None
    """Names of the encoders to run, separated by commas; default all of the model's."""
    per_shard: Count = 256
    """Number of records in each file."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-encode`."""
    with exit_on(ValueError, OSError):
        args = parse_recipe_args(Args, "uno-encode", argv)
        config, out = args.recipe, args.out
        check_recipe(dataclasses.replace(config, data=dataclasses.replace(config.data, encodings=str(out))))
        check_utf8(out, "encodings")
        check_output_folder("--out", out)
        processes = config.processes
        join_processes(processes.coordinator, processes.count, processes.index)
        use_compile_cache()
        kinds = None if args.networks is None else tuple(filter(None, args.networks.split(",")))
        with locked_by_first(locked(out)):
            bad = encode_lists(config, out, kinds, args.per_shard)
            for name, why in bad.items():
                print(f"left out {name}: {why}")
            wait_for_all(f"encoded {out}")
        kept, listed = len(read_encodings(str(out))), read_info(out).records
        print(f"wrote {out} ({counted(kept, 'record')}, {listed - kept} left out)")


if __name__ == "__main__":
    main()
