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

from PIL import Image, ImageDraw, ImageFont

from uno_jax.command_line import errors_told, parse_args
from uno_jax.data import Record, read_list

CELL = 256  # pixels of a picture on the sheet
MARGIN, HEADER, CAPTION = 12, 34, 30
COLUMNS = ("reference", "target", "sample")


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
            *("--guidance", "1", "--ref-size", "64", "--out", str(work / "samples")),
        ],
    ]


def sheet(records: Sequence[Record], samples: list[Path]) -> Image.Image:
    """Two records a row: reference, target and sample under their names, the prompt below."""
    width, height = len(COLUMNS) * CELL + 2 * MARGIN, CELL + CAPTION
    rows = (len(records) + 1) // 2
    page = Image.new("RGB", (2 * width, HEADER + rows * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(18)
    for index, (record, sample) in enumerate(zip(records, samples, strict=True)):
        left, top = index % 2 * width + MARGIN, HEADER + index // 2 * height
        for column, path in enumerate((record.refs[0], record.target, str(sample))):
            x = left + column * CELL
            pen.text((x + 4, 7), COLUMNS[column], "black", font)
            with Image.open(path) as picture:
                shown = picture.resize((CELL - 4, CELL - 4), Image.Resampling.BICUBIC)
                page.paste(shown, (x, top))
        pen.text((left + 4, top + CELL), record.prompt, "dimgrey", font)
    return page


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
        sheet(records, samples).save(args.out / "demo.png")
        print(f"\nwrote {args.out / 'demo.png'}")


if __name__ == "__main__":
    main()
