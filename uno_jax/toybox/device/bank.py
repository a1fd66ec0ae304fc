"""The bank of backgrounds: many drawings of each scene in one file, from which the device cuts its pictures.

Drawing `i` of scene `k` depends on the seed, `k` and `i` alone, in any number of processes.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from uno_jax.support.atomic import atomic_write
from uno_jax.support.json_files import parse_json
from uno_jax.support.memory import free_host_bytes, refuse_beyond_memory
from uno_jax.support.settings import from_dict
from uno_jax.support.words import counted
from uno_jax.toybox.scenes import SCENES, draw_scene

SIDE = 160  # pixels of a background
PER_SCENE = 200
CHUNK = 8  # drawings handed to a process at a time


class BankError(ValueError):
    """A file is not a bank of backgrounds, or not one of the present scenes."""


@dataclass(frozen=True)
class Record:
    """What a bank was drawn from."""

    scenes: tuple[str, ...]
    per_scene: int
    side: int
    seed: int


class Bank(NamedTuple):
    record: Record
    pictures: UInt8[np.ndarray, "scene n side side 3"]


def draw_bank(per_scene: int = PER_SCENE, side: int = SIDE, seed: int = 0, processes: int | None = 1) -> Bank:
    """`per_scene` drawings of each scene; `processes` None is one for each core.

    Raises RecipeError for more than fits into memory.
    """
    record = Record(tuple(SCENES), per_scene, side, seed)
    what = f"{counted(len(record.scenes) * per_scene, 'background')} of {side}x{side}"
    need = len(record.scenes) * per_scene * 3 * side**2
    refuse_beyond_memory(need, what, "draw fewer of each scene, or smaller ones", free_host_bytes())
    jobs = [(scene, i) for scene in range(len(record.scenes)) for i in range(per_scene)]
    pictures = np.empty((len(jobs), side, side, 3), np.uint8)
    drawn = _in_processes(record, jobs, processes)
    for index, picture in enumerate(tqdm(drawn, "backgrounds", len(jobs), unit="picture")):
        pictures[index] = picture
    return Bank(record, pictures.reshape(len(record.scenes), per_scene, side, side, 3))


def _in_processes(
    record: Record, jobs: Sequence[tuple[int, int]], processes: int | None
) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
    if processes == 1:
        yield from map(partial(_draw, record), jobs)
        return
    # A fork would copy the threads' locks of JAX, which may be held.
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(partial(_draw, record), jobs, chunksize=CHUNK)


def _draw(record: Record, job: tuple[int, int]) -> UInt8[np.ndarray, "side side 3"]:
    scene, index = job
    return draw_scene(record.scenes[scene], np.random.default_rng([record.seed, scene, index]), record.side)


def save_bank(bank: Bank, path: Path) -> None:
    """Writes the pictures and their record as one .npz."""
    with atomic_write(path) as partial_path, partial_path.open("wb") as file:
        np.savez(file, record=json.dumps(asdict(bank.record)), pictures=bank.pictures)


def load_bank(path: Path) -> Bank:
    """A bank that `save_bank` wrote.

    Raises OSError, or BankError for another file and for scenes that are not the present ones.
    """
    try:
        with np.load(path) as file:
            fields, pictures = parse_json(str(file["record"]), "its record"), file["pictures"]
        record = from_dict(Record, fields)
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise BankError(f"{path} is not a bank of backgrounds: {error}") from error
    if record.scenes != tuple(SCENES):
        raise BankError(f"{path} has other scenes than the present ones: draw it again")
    if pictures.shape != (len(record.scenes), record.per_scene, record.side, record.side, 3):
        raise BankError(f"{path} holds pictures of {pictures.shape}, not what its record says")
    return Bank(record, pictures)


def resized(bank: Bank, side: int) -> UInt8[np.ndarray, "scene n side side 3"]:
    """The pictures at another size, averaged down or interpolated up."""
    if side == bank.record.side:
        return bank.pictures
    flat = bank.pictures.reshape(-1, *bank.pictures.shape[2:])
    small = np.empty((len(flat), side, side, 3), np.uint8)
    for index, picture in enumerate(flat):
        small[index] = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))
    return small.reshape(*bank.pictures.shape[:2], side, side, 3)
