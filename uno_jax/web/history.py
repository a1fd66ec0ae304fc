"""The pictures of a folder with the settings beside them, newest first."""

from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.support.json_files import read_json

SHOWN = 60


class Drawn(NamedTuple):
    """A picture, and its settings as `uno-sample` writes them."""

    picture: Path
    record: dict[str, Any]

    @property
    def caption(self) -> str:
        """What stands below it."""
        return f"{self.record.get('prompt', '')} (seed {self.record.get('seed', '?')})"


def read_history(folder: Path, most: int = SHOWN) -> list[Drawn]:
    """The latest pictures of a folder; those without settings, or with damaged ones, are left out."""
    numbered = [path for path in folder.glob("*.png") if path.stem.isdecimal()]
    found: list[Drawn] = []
    for path in sorted(numbered, key=lambda path: int(path.stem), reverse=True):
        if len(found) == most:
            break
        try:
            record = read_json(path.with_suffix(".json"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            found.append(Drawn(path, record))
    return found
