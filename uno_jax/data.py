"""Training records to batches: a JSON list of pairs -> grain -> Batch of numpy arrays.

A record is {"prompt", "image_paths": [references] or "image_path", "image_tgt_path"}, its paths relative to
the list's folder: the form of UNO's own training and benchmark lists.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np
from PIL import Image

from uno_jax import images, tokenizers
from uno_jax.recipe import DataConfig
from uno_jax.types import Batch

SHOWN_PROBLEMS = 5
EPOCHS = 1_000_000  # endless in effect; the length of a truly endless dataset overflows in grain


class Record(NamedTuple):
    """One training sample, its paths resolved."""

    prompt: str
    refs: tuple[Path, ...]
    target: Path


class DataError(ValueError):
    """A list of records cannot be used; the message names the list and its first bad records."""


def read_list(path: str | Path) -> list[Record]:
    """All records of a JSON list. Raises FileNotFoundError, or DataError with the first problems and their
    number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no list of records at {path}")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path} must hold a list of records and at least one, got {type(entries).__name__}")
    records, problems = [], []
    for index, entry in enumerate(entries):
        try:
            records.append(_record(entry, path.parent))
        except DataError as error:
            problems.append(f"record {index}: {error}")
    if problems:
        shown = "; ".join(problems[:SHOWN_PROBLEMS])
        raise DataError(f"{path} has {len(problems)} bad records of {len(entries)}: {shown}")
    return records


def _record(entry: Any, folder: Path) -> Record:
    if not isinstance(entry, dict):
        raise DataError(f"expected an object, got {type(entry).__name__}")
    refs = entry.get("image_paths", [entry["image_path"]] if "image_path" in entry else [])
    prompt, target = entry.get("prompt"), entry.get("image_tgt_path")
    if not isinstance(prompt, str):
        raise DataError(f'"prompt" must be a text, got {prompt!r}')
    if not isinstance(target, str):
        raise DataError(f'"image_tgt_path" must be a path, got {target!r}')
    if not isinstance(refs, list) or not all(isinstance(ref, str) for ref in refs):
        raise DataError(f'"image_paths" must be a list of paths, got {refs!r}')
    record = Record(prompt, tuple(folder / ref for ref in refs), folder / target)
    if missing := [str(file) for file in (record.target, *record.refs) if not file.is_file()]:
        raise DataError(f"no picture at {', '.join(missing)}")
    return record


def each_picture(records: Sequence[Record]) -> list[Record]:
    """Every picture of the records once, as a target of its own: what an autoencoder learns from."""
    paths = dict.fromkeys(path for record in records for path in (record.target, *record.refs))
    return [Record("", (), path) for path in paths]


def make_dataset(
    records: Sequence[Record], config: DataConfig, batch_size: int, t5_length: int, seed: int
) -> grain.IterDataset:
    """Endless batches in an order fixed by `seed`, each of records with one number of references.

    Numbers of references come in proportion to their records. The iterator's state (`get_state`,
    `set_state`) resumes it exactly.
    """
    groups: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        groups[len(record.refs)].append(record)
    batches = [
        grain.MapDataset.source(group).seed(seed).shuffle().repeat(EPOCHS).batch(batch_size, batch_fn=list)
        for _, group in sorted(groups.items())
    ]
    weights = [len(group) / len(records) for _, group in sorted(groups.items())]
    mixed = grain.MapDataset.mix(batches, weights) if len(batches) > 1 else batches[0]

    def load(group: list[Record], rng: np.random.Generator) -> Batch:
        return load_batch(group, config, t5_length, rng)

    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=2 * config.threads)
    return mixed.seed(seed).random_map(load).to_iter_dataset(options)


def load_batch(
    records: Sequence[Record], config: DataConfig, t5_length: int, rng: np.random.Generator
) -> Batch:
    """Pictures resized to the bucket of their batch's mean aspect ratio, references slot by slot, and token
    ids.
    """
    kept = rng.random(len(records)) >= config.text_dropout
    prompts = [record.prompt if keep else "" for record, keep in zip(records, kept, strict=True)]
    slots = zip(*(record.refs for record in records), strict=True)
    return Batch(
        target=_stack([record.target for record in records], config.resolution),
        refs=tuple(_stack(paths, config.ref_resolution) for paths in slots),
        t5_tokens=tokenizers.t5_tokens(prompts, t5_length),
        clip_tokens=tokenizers.clip_tokens(prompts),
    )


def _stack(paths: Sequence[Path], resolution: int) -> np.ndarray:
    pictures = [images.read_image(path) for path in paths]
    height, width = images.batch_bucket_size([picture.size for picture in pictures], resolution)
    resized = [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]
    return np.stack([images.to_array(picture) for picture in resized])
