"""Kept pairs -> what uno_jax.data reads: RUN/export/{single,two}/{train,val}.json, shards and a datasheet."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...common.manifest import SynthesisError
from ..pipeline.lineage import Sample, single_samples, two_samples
from ..stages.perceptual_hashes import near_duplicates
from .datasheet import write_datasheet

if TYPE_CHECKING:
    from ..pipeline.run import Run

KINDS = {"single": single_samples, "two": two_samples}


def export(run: "Run") -> None:
    """Writes every list anew; the shards only of lists that have none. Says what was left out.

    Raises SynthesisError when nothing is left.
    """
    config = run.config.export
    kept = {kind: list(samples(run)) for kind, samples in KINDS.items()}
    repeats = {}
    if config.duplicate_distance >= 0 and kept["single"]:
        run.do("hashes")
        repeats = near_duplicates(run.kept("hashes"), config.duplicate_distance)
    lists: dict[str, list[Sample]] = {}
    for kind, samples in kept.items():
        left = [sample for sample in samples if sample.target not in repeats]
        for split, chosen in by_split(left, config.val_share).items():
            lists[f"{kind}/{split}"] = chosen
    if not any(lists.values()):
        raise SynthesisError(f"export: no pair was kept in {run.folder}; `report` tells why")
    for name, samples in lists.items():
        path = run.folder / "export" / f"{name}.json"
        write_list(path, run.folder, samples)
        if samples and config.shards:
            pack(path)
        print(f"{path}: {len(samples)} samples")
    write_datasheet(run, lists, len(repeats))


def by_split(samples: Iterable[Sample], val_share: float) -> dict[str, list[Sample]]:
    """A sample goes to val when any of its subjects is held out, which then is in no training sample. Beside
    it in val there may be one that is not.
    """
    lists: dict[str, list[Sample]] = {"train": [], "val": []}
    for sample in samples:
        held_out = any(share_of(subject) < val_share for subject in sample.subjects)
        lists["val" if held_out else "train"].append(sample)
    return lists


def share_of(subject: str) -> float:
    """A number in [0, 1) that is the subject's own, whatever the run."""
    return int(hashlib.sha256(subject.casefold().encode()).hexdigest()[:8], 16) / 16**8


def write_list(path: Path, folder: Path, samples: Sequence[Sample]) -> None:
    """Puts the list in place, its paths relative to itself. A recipe's `min_score` can take a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "prompt": sample.prompt,
            "image_paths": [os.path.relpath(folder / picture, path.parent) for picture in sample.references],
            "image_tgt_path": os.path.relpath(folder / sample.target, path.parent),
            "score": sample.score,
        }
        for sample in samples
    ]
    text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"
    aside = path.with_suffix(".partial")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def pack(path: Path) -> None:
    """WebDataset shards of a list beside it, in a folder of its content's name. Raises SynthesisError."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    out = path.with_name(f"{path.stem}-shards-{digest}")
    if (out / "records.json").exists():
        return
    command = [sys.executable, "-m", "uno_jax.data", "pack", str(path), "--out", str(out)]
    if subprocess.run(command).returncode:
        raise SynthesisError(f"shards of {path} could not be written (see above): {' '.join(command)}")
