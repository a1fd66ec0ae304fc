"""Subjects: a folder with a manifest.json -> decoded cut-out pictures.

The manifest is a list of {"name", "file", "group", "split"}: `file` is relative to the folder and has an
alpha channel, `split` is "train" or "val". The shipped folder is assets/ (see its NOTICE.md).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from uno_jax.support.images import upright
from uno_jax.support.json_files import read_json
from uno_jax.support.picture_file import ImageError, open_picture

ASSETS = Path(__file__).parent / "assets"
LARGEST_SIDE = 512  # larger cut-outs are scaled down to it when loaded
SMALLEST_LEVEL = 24

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


class SubjectError(ValueError):
    """A manifest or a subject's picture is invalid."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A cut-out. `levels` are "RGBa" (premultiplied) pictures of it, each half the size of the one before."""

    name: str
    group: str
    split: str
    levels: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.levels[0].size


def load_subjects(folder: str | Path | None = None, split: str = "train") -> list[Subject]:
    """Decodes all subjects of one split, in the manifest's order; `folder` None means the shipped one.

    Raises FileNotFoundError for a missing manifest or picture, SubjectError for an invalid one.
    """
    root = ASSETS if folder is None else Path(folder)
    if split not in SPLITS:
        raise SubjectError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    entries = [entry for entry in _read_manifest(root / "manifest.json") if entry["split"] == split]
    if not entries:
        raise SubjectError(f"{root / 'manifest.json'} has no subjects of split {split!r}")
    missing = [entry["file"] for entry in entries if not (root / entry["file"]).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FileNotFoundError(f"{root / 'manifest.json'} names {missing[0]}{more}, not found under {root}")
    return [
        Subject(entry["name"], entry["group"], entry["split"], _decode(root / entry["file"]))
        for entry in entries
    ]


def _read_manifest(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} not found: a subjects folder needs a list of {{"name", "file", "group", "split"}}'
        )
    entries = read_entries(path)
    names: set[str] = set()
    for number, entry in enumerate(entries):
        _check_entry(entry, f"{path}, entry {number}")
        if entry["name"] in names:
            raise SubjectError(f"{path}, entry {number}: the name {entry['name']!r} appears twice")
        names.add(entry["name"])
    return entries


def read_entries(path: Path) -> list[Any]:
    """A JSON list with any entries.

    Raises OSError, or SubjectError if the file is not a JSON list.
    """
    entries = read_json(path, SubjectError)
    if not isinstance(entries, list):
        raise SubjectError(f"{path}: expected a list of subjects, got {type(entries).__name__}")
    return entries


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise SubjectError(f"{where}: expected an object, got {type(entry).__name__}")
    for key in ("name", "file", "group", "split"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise SubjectError(f"{where}: {key!r} must be a non-empty string, got {entry.get(key)!r}")
    if entry["split"] not in SPLITS:
        raise SubjectError(f"{where}: unknown split {entry['split']!r}, expected one of {', '.join(SPLITS)}")


def _decode(path: Path) -> tuple[Image.Image, ...]:
    try:
        with open_picture(path) as (opened, turn):
            if not opened.has_transparency_data:
                raise ImageError(f"{opened.mode} has no alpha channel: a subject must be cut out")
            picture = upright(opened, turn).convert("RGBA")
    except (OSError, ImageError) as error:
        raise SubjectError(str(error)) from error
    box = picture.getchannel("A").point(lambda alpha: 255 if alpha > 16 else 0).getbbox()
    if box is None:
        raise SubjectError(f"{path} is fully transparent")
    picture = picture.crop(box)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    levels = [picture.convert("RGBa")]
    while max(levels[-1].size) >= 2 * SMALLEST_LEVEL:
        levels.append(levels[-1].reduce(2))
    return tuple(levels)
