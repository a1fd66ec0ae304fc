"""Kept pairs -> data for training: RUN/export/{single,two}/{train,val}.json, shards and a datasheet."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from uno_jax.support.atomic import atomic_write
from uno_jax.support.images import ImageError, read_size
from uno_jax.support.words import counted

from ...common.errors import ToolError
from ..pipeline.lineage import Sample, single_samples, two_samples
from ..pipeline.run import Run
from ..stages.perceptual_hashes import near_duplicates
from .datasheet import write_datasheet

KINDS = {"single": single_samples, "two": two_samples}


def export_run(run: Run) -> None:
    """Writes all lists, shards of lists that have none yet, and the datasheet.

    Raises ToolError when no pair is left.
    """
    config = run.config.export
    kept = {kind: list(samples(run)) for kind, samples in KINDS.items()}
    repeats = {}
    if config.duplicate_distance >= 0 and kept["single"]:
        run.run_stage("hashes")
        repeats = near_duplicates(run.kept("hashes"), config.duplicate_distance)
    lists: dict[str, list[Sample]] = {}
    for kind, samples in kept.items():
        left = [sample for sample in samples if sample.target not in repeats]
        for split, chosen in by_split(left, config.val_share).items():
            lists[f"{kind}/{split}"] = chosen
    if not any(lists.values()):
        raise ToolError(
            f"export: no pair was kept in {run.folder}; `uno-synthesize report --run {run.folder}` shows why"
        )
    for name, samples in lists.items():
        path = run.folder / "export" / f"{name}.json"
        write_list(path, run.folder, samples)
        if samples and config.shards:
            write_shards(path)
        print(f"{path}: {counted(len(samples), 'sample')}")
    write_datasheet(run, lists, len(repeats))


def by_split(samples: Iterable[Sample], val_share: float) -> dict[str, list[Sample]]:
    """A sample goes to val if any of its subjects is held out, so that no training sample shows that one.
    The other subject of a val sample may be a training subject.
    """
    lists: dict[str, list[Sample]] = {"train": [], "val": []}
    for sample in samples:
        held_out = any(subject_share(subject) < val_share for subject in sample.subjects)
        lists["val" if held_out else "train"].append(sample)
    return lists


def subject_share(subject: str) -> float:
    """A number in [0, 1) that depends on the subject's name alone."""
    return int(hashlib.sha256(subject.casefold().encode()).hexdigest()[:8], 16) / 16**8


def write_list(path: Path, folder: Path, samples: Sequence[Sample]) -> None:
    """Writes a list with paths relative to itself. A recipe's `min_score` can select a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "prompt": sample.prompt,
            "image_paths": [os.path.relpath(folder / picture, path.parent) for picture in sample.references],
            "image_tgt_path": os.path.relpath(folder / sample.target, path.parent),
            "image_sizes": [picture_size(folder, path) for path in (sample.target, *sample.references)],
            "score": sample.score,
        }
        for sample in samples
    ]
    text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def picture_size(folder: Path, path: str) -> tuple[int, int]:
    """(width, height) of a run's picture.

    Raises ToolError.
    """
    try:
        return read_size(folder / path)
    except (OSError, ImageError) as error:
        raise ToolError(f"export: {error}") from None


def write_shards(path: Path) -> None:
    """Writes WebDataset shards beside a list, in a folder named by the list's content.

    Raises ToolError.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    out = path.with_name(f"{path.stem}-shards-{digest}")
    if (out / "records.json").exists():
        return
    command = [sys.executable, "-m", "uno_jax.data", "pack", str(path), "--out", str(out)]
    if subprocess.run(command).returncode:
        raise ToolError(f"shards of {path} could not be written (see above): {' '.join(command)}")
