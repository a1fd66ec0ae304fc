"""The demo, from the command line as a user would: make pairs, train on them, sample them back, show them.

Six toybox subjects, each drawn in two scenes. A small model starts from nothing, learns to draw the second
scene given the prompt and the first as reference, and is sampled. Out: demo.png, and in demo/ all that the
commands write, so that a second run continues where the first stopped.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from uno_jax.command_line import errors_told, parse_args
from uno_jax.data import Record, read_list
from uno_jax.images import read_image
from uno_jax.sheet import Row, contact_sheet


@dataclass(frozen=True)
class Args:
    """Train a small model on six pairs and sample them back: OUT/demo.png."""

    out: Path = Path("out")
    """Directory for demo.png; demo/ in it gets everything that the commands write."""


def commands(work: Path) -> list[list[str]]:
    """The commands of the demo, in order; `work` holds what they write."""
    pairs, vae, run = work / "pairs", work / "vae", work / "run"
    data = ["--data.path", str(pairs / "pairs.json")]
    make = ["uno_jax.toybox", "--out", str(pairs), "--count", "6", "--size", "64", "--seed", "1"]
    train = ["uno_jax.train", "--config"]
    return [
        *([] if (pairs / "pairs.json").is_file() else [make]),
        [*train, "configs/demo_vae.py", "--workdir", str(vae), *data],
        [*train, "configs/demo.py", "--workdir", str(run), "--weights", str(vae / "model"), *data],
        [
            *("uno_jax.sample", "--jobs", str(pairs / "pairs.json"), "--model", str(run / "model")),
            *("--width", "64", "--height", "64", "--ref-size", "64", "--guidance", "1"),
            *("--out", str(work / "samples")),
        ],
    ]


def page(records: Sequence[Record], samples: Sequence[Path]) -> Image.Image:
    """Two records a row: reference, target and sample, the prompt below."""
    rows = []
    for record, sample in zip(records, samples, strict=True):
        pictures = [read_image(path) for path in (record.refs[0], record.target, str(sample))]
        rows.append(Row(pictures, record.prompt))
    return contact_sheet(("reference", "target", "sample"), rows, abreast=2)


def main() -> None:
    args = parse_args(Args, "python -m uno_jax.demo", None)
    with errors_told(ValueError, OSError):
        work = args.out / "demo"
        for command in commands(work):
            print(f"\n$ python -m {shlex.join(command)}", flush=True)
            if code := subprocess.run([sys.executable, "-m", *command]).returncode:
                sys.exit(code)
        records = read_list(work / "pairs" / "pairs.json")
        samples = [work / "samples" / f"{index}_0.png" for index in range(len(records))]
        page(records, samples).save(args.out / "demo.png")
        print(f"\nwrote {args.out / 'demo.png'}")


if __name__ == "__main__":
    main()
