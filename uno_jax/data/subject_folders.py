"""A folder of subjects as a list: PHOTOS/SUBJECT/NAME.jpg, and SUBJECT/NAME.txt with its caption.

A picture with a caption is a target, and other pictures of its subject are its reference, one at a time.
Those without a caption are references only. Pictures right in PHOTOS are a subject of their own.
"""

from collections.abc import Iterator
from pathlib import Path

from uno_jax.data.entries import DataError
from uno_jax.support.images import SUFFIXES
from uno_jax.support.regular_file import check_regular_file

PARTNERS = 8
"""Of the pictures of its subject that follow a target, in the order of their names and round, so many are its
reference in turn: a hundred photos make 800 pairs.
"""
MAX_CAPTION = 1 << 16  # bytes


def folder_entries(folder: Path) -> Iterator[dict[str, str]]:
    """Entries in the form of UNO's lists, with paths relative to the folder, in the order of their names.

    Raises DataError for a folder without pictures, a subject with a single one or without a caption, and a
    caption that is empty, too long or not UTF-8.
    """
    found = False
    for subject in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        pictures = sorted(path for path in subject.iterdir() if path.suffix.lower() in SUFFIXES)
        if pictures:
            found = True
            yield from _pairs(folder, subject, pictures)
    if not found:
        raise DataError(
            f"{folder} is a directory without pictures: expected a list's file, or a folder of subjects with "
            f"{folder}/SUBJECT/NAME.jpg and captions in SUBJECT/NAME.txt"
        )


def _pairs(folder: Path, subject: Path, pictures: list[Path]) -> Iterator[dict[str, str]]:
    if len(pictures) == 1:
        raise DataError(f"{subject} has one picture, expected two or more: the reference is another one")
    targets = [number for number, path in enumerate(pictures) if path.with_suffix(".txt").exists()]
    if not targets:
        wanted = pictures[0].with_suffix(".txt")
        raise DataError(f"{subject} has no caption: expected one beside each target, such as {wanted}")
    for number in targets:
        target, caption = pictures[number], read_caption(pictures[number].with_suffix(".txt"))
        for step in range(1, min(PARTNERS, len(pictures) - 1) + 1):
            reference = pictures[(number + step) % len(pictures)]
            yield {
                "prompt": caption,
                "image_path": str(reference.relative_to(folder)),
                "image_tgt_path": str(target.relative_to(folder)),
            }


def read_caption(path: Path) -> str:
    """The text of a file on one line.

    Raises DataError.
    """
    check_regular_file(path)
    with path.open("rb") as file:
        content = file.read(MAX_CAPTION + 1)
    if len(content) > MAX_CAPTION:
        raise DataError(f"{path} is not a caption: it has over {MAX_CAPTION >> 10} KiB")
    try:
        caption = " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not caption:
        raise DataError(f"{path} is empty, expected the caption of the picture beside it")
    return caption
