"""Pictures of a run: PNG files under RUN/pictures, whole whenever they are there."""

import os
from pathlib import Path

from PIL import Image

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow meets damage with


def save(image: Image.Image, folder: Path, stage: str, id: str, name: str = "") -> str:
    """Writes a row's picture aside and puts it in place; its path relative to the run's folder."""
    relative = Path("pictures", stage, id[:2], f"{id}{'_' if name else ''}{name}.png")
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    image.save(aside, "PNG")
    os.replace(aside, path)
    return str(relative)


def load(folder: Path, path: str) -> Image.Image:
    """A picture in RGB; imported ones may have absolute paths. Raises OSError when it cannot be read."""
    try:
        with Image.open(folder / path) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise OSError(f"{path} is no readable picture: {error}") from None
