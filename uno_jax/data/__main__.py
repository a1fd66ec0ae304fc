"""`uno-data`, `python -m uno_jax.data`: training lists from the command line.

uno-data check FILE                     every bad record with its reason; exits 1 if there is any
uno-data check FILE --write SIZED.json  also writes the good records with their sizes, for true buckets
uno-data pack FILE --out DIR            tar shards, to train from DIR/records.json
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from uno_jax.data.check import Report, check_records
from uno_jax.data.config import DataConfig, PairScore, Resolution, SourceConfig
from uno_jax.data.pack import masked, pack_records, scored, write_json
from uno_jax.data.records import Records, parse_source, read_scores, read_source
from uno_jax.support.atomic import check_output, check_output_folder
from uno_jax.support.bounds import Count, Share
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.words import counted


@dataclass(frozen=True)
class Resolutions:
    """As the recipe's `data`."""

    resolution: Resolution = 512
    """Bucket resolution of targets in pixels."""
    ref_resolution: Resolution = 512
    """Bucket resolution of references in pixels."""


@dataclass(frozen=True)
class Check:
    """Decode every picture of a list; count by bucket and references; name every bad record."""

    file: Annotated[str, tyro.conf.Positional]
    """Training list in JSON, or a folder of subjects (docs/data.md)."""
    min_score: PairScore | None = None
    """Lowest score of entries that are taken. None takes all, but of UNO-1M's labels only those of 4."""
    root: str = ""
    """Folder of the pictures, where it is not the list's own."""
    write: Path | None = None
    """File to write the good records to, with absolute paths, their pictures' sizes and their scores.
    """
    data: Resolutions = Resolutions()


@dataclass(frozen=True)
class Pack:
    """Write a list and its pictures as tar shards, bad records left out; train from OUT/records.json."""

    file: Annotated[str, tyro.conf.Positional]
    """Training list in JSON, or a folder of subjects (docs/data.md)."""
    out: Path
    """Directory for the shards and records.json."""
    min_score: PairScore | None = None
    """Lowest score of entries that are taken. None takes all, but of UNO-1M's labels only those of 4."""
    root: str = ""
    """Folder of the pictures, where it is not the list's own."""
    per_shard: Count = 1000
    """Number of records in each shard."""
    max_bad_share: Share = 0.01
    """Largest share of bad entries; with more of them nothing is written."""


def run_check(args: Check) -> int:
    """Prints the report of a list; returns the exit code, 1 when any record is bad."""
    if args.write:
        check_output("--write", args.write)
    records = parse_source(SourceConfig(args.file, min_score=args.min_score, root=args.root))
    data = DataConfig(resolution=args.data.resolution, ref_resolution=args.data.ref_resolution)
    report = check_records(records, data)
    for line in report.lines():
        print(line)
    if args.write:
        entries = sized_entries(records, report)
        write_json(args.write, entries)
        print(f"wrote {args.write} ({counted(len(entries), 'record')})")
    return 1 if report.bad or not report.sizes else 0


def sized_entries(records: Records, report: Report) -> list[dict[str, object]]:
    """The good records as a list with sizes, in their order."""
    return [
        {
            "prompt": record.prompt,
            "image_paths": [_absolute(path) for path in record.refs],
            "image_tgt_path": _absolute(record.target),
            "image_sizes": report.sizes[entry],
            **masked(_absolute(record.mask) if record.mask else ""),
            **scored(score),
        }
        for entry, record, score in zip(records.entry.tolist(), records, read_scores(records), strict=True)
        if entry in report.sizes
    ]


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())


def run_pack(args: Pack) -> int:
    """Packs a list and prints the bad records; returns the exit code."""
    check_output_folder("--out", args.out)
    source = SourceConfig(args.file, min_score=args.min_score, root=args.root)
    records = read_source(source, args.max_bad_share)
    bad = pack_records(records, args.out, args.per_shard, args.max_bad_share)
    for name, why in bad.items():
        print(f"left out {name}: {why}")
    print(f"wrote {args.out / 'records.json'} ({counted(len(records) - len(bad), 'record')})")
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-data`."""
    with exit_on(ValueError, OSError):
        args: Check | Pack = parse_args(Check | Pack, "uno-data", argv)
        sys.exit(run_check(args) if isinstance(args, Check) else run_pack(args))


if __name__ == "__main__":
    main()
