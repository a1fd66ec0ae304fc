"""Outputs that cannot be written: a full disk, devices, files where folders are wanted and the reverse."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile.case import REFUSED, UNREAD, Case, spoilt
from benchmarks.hostile.names import OUTPUTS

PLACES = {
    "/dev/full": "/dev/full",
    "/dev/null": "/dev/null",
    "in /proc": "/proc/none/new",
    "below a file": "file/new",
    "a file": "file",
    "a folder with files": "folder",
    "a broken link": "link",
    "a URL": "s3://bucket/new",
    "empty": "",
}
PRINTING = ("check", "pack", "train", "encode", "report", "toybox", "inspect", "stage report", "export-lora")


def cases() -> Iterator[Case]:
    for base, (option, _) in OUTPUTS.items():
        for name, place in PLACES.items():
            # Some may be written to: those that replace or resume, and a link to nowhere.
            codes = (0, REFUSED) if name in ("a folder with files", "a broken link", "a file") else (REFUSED,)
            words = (f"{option}={place}",)
            yield spoilt(base, f"{option} {name}", *words, make=_places, codes=codes, check=_kept)
    for base in PRINTING:
        yield spoilt(base, "output on a full disk", stdout="/dev/full", codes=(REFUSED,))
        yield spoilt(base, "output closed", stdout="closed", codes=(0, 1))
        yield spoilt(base, "output unread", stdout="unread", codes=(0, UNREAD))
        # In pages of help every command prints before anything else.
        helped = spoilt(base, "help unread", stdout="unread", codes=(0, UNREAD))
        yield helped._replace(words=(*helped.words, "--help"))


def _places(folder: Path) -> None:
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "folder" / "file").write_text("mine")
    (folder / "link").symlink_to("nowhere")


def _kept(folder: Path) -> str:
    """Files that the command did not make are as they were."""
    kept = folder / "folder" / "file"
    return "" if kept.is_file() and kept.read_text() == "mine" else "a file in the folder was lost"
