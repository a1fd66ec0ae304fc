"""Pictures of a run: PNG files under RUN/pictures, complete whenever they exist."""

from pathlib import Path

from PIL import Image

from uno_jax.support.atomic import atomic_write
from uno_jax.support.images import ImageError, read_image


def save_image(image: Image.Image, folder: Path, stage: str, id: str, name: str = "") -> str:
    """Saves a row's picture and returns its path relative to the run's folder."""
    relative = Path("pictures", stage, id[:2], f"{id}{'_' if name else ''}{name}.png")
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        image.save(partial, "PNG")
    return str(relative)


def load_image(folder: Path, path: str) -> Image.Image:
    """Loads a picture as RGB; imported ones may have absolute paths.

    Raises OSError if it is unreadable.
    """
    try:
        return read_image(folder / path, path)
    except (FileNotFoundError, ImageError) as error:
        raise OSError(f"{path} is not a readable picture: {str(error).removeprefix(f'{path}: ')}") from None
