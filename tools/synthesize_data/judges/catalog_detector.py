"""Looks for a subject by its picture in place of its name: a stand-in for open-vocabulary detectors.

The small run has no detector's weights at hand, but pictures of all its subjects. What it finds it really
finds, in the pixels and with a network that neither the project nor its data trained: the name only chooses
the picture to look for. It cannot do what detectors are for: things of which there is no picture.
`python -m benchmarks.judge` measures how often it is right.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...common.manifest import Failed, SynthesisError
from ..config import SynthConfig
from ..pipeline.packaged import in_uno_jax
from ..stages.detect import Found
from ..text.phrases import key
from .features import EfficientNetLite0, unit

TOYBOX = "toybox"
GROUND = "gray"
SIDE = 320  # pixels that pictures are resized to
CELL = 32  # pixels of a cell of the map
EXTENT = 0.42  # of a picture, that the longer side of a subject beside another one takes
COVERED = 0.3  # of a cell, from which on it is the subject's
# From the median to the best cell's cosine, where cells begin to speak for a box. Of 100 subjects of the
# train split, beside another each, 0.4 found 91 %, 0.3 and 0.5 found 86 % and 82 %.
WAY = 0.4
SIDES = (0.28, 0.6)  # of a box's longer side, as shares of the picture
ASPECTS = (0.6, 1.7)  # of a box, over the subject's own


class Catalog:
    """A folder of cut-outs with a manifest.json, [{"name", "file"}]; "toybox" are the subjects of uno_jax."""

    def __init__(self, config: SynthConfig):
        name = config.detect.catalog
        if not name:
            raise SynthesisError(
                "detect.catalog is empty: name a folder of pictures with a manifest.json, or toybox"
            )
        self.files = read_catalog(in_uno_jax("toybox", "assets") if name == TOYBOX else Path(name))
        self.network = EfficientNetLite0(config.device)
        self.known: dict[str, tuple[NDArray[np.float32], float]] = {}

    def __call__(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[Found | Failed]:
        maps = self.network.maps(images, SIDE)
        return [self.find(*each) for each in zip(maps, images, names, strict=True)]

    def find(self, cells: NDArray[np.float32], image: Image.Image, name: str) -> Found | Failed:
        """The score is the mean, over the subject's cells, of the best cosine anywhere in the picture."""
        try:
            subject, aspect = self.look_up(name)
        except (KeyError, OSError) as error:
            return Failed(str(error.args[0]))
        cosines = unit(cells) @ subject.T
        aspect *= image.height / image.width  # the map is square whatever the picture is
        y0, y1, x0, x1 = best_window(cosines.max(2), aspect)
        across, down = image.width / len(cells), image.height / len(cells)
        box = (round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down))
        return Found(box, float(cosines.max((0, 1)).mean()))

    def look_up(self, name: str) -> tuple[NDArray[np.float32], float]:
        """A subject's cells, each of length 1, and its width over its height. KeyError for an unknown one."""
        plain = key(name)
        if plain not in self.files:
            raise KeyError(f"{name!r} is not in the catalogue of {len(self.files)} subjects")
        if plain not in self.known:
            page, covered, aspect = set_on_ground(self.files[plain])
            # The most covered cells of a subject too thin to cover any well.
            least = min(COVERED, np.sort(covered, axis=None)[-3])
            self.known[plain] = unit(self.network.maps([page], SIDE)[0][covered >= least]), aspect
        return self.known[plain]


def read_catalog(folder: Path) -> dict[str, Path]:
    """Files by plain name. Raises SynthesisError."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise SynthesisError(f'detect.catalog: no {path}; it is a list of {{"name", "file"}}')
    try:
        files = {key(entry["name"]): folder / entry["file"] for entry in json.loads(path.read_text("utf-8"))}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SynthesisError(
            f'{path} is no list of {{"name", "file"}}: {type(error).__name__} {error}'
        ) from None
    if missing := [file for file in files.values() if not file.is_file()]:
        raise SynthesisError(f"{path} names {missing[0]}, and {len(missing)} in all, that are not there")
    return files


def set_on_ground(file: Path) -> tuple[Image.Image, NDArray[np.float64], float]:
    """A cut-out in the middle of a plain page, as large as it may be found; the share of each cell that it
    covers; its width over its height. Raises OSError.
    """
    try:
        with Image.open(file) as image:
            cutout = image.convert("RGBA")
    except (SyntaxError, ValueError, OSError) as error:
        raise OSError(f"{file} is no readable picture: {error}") from None
    cutout = cutout.crop(cutout.getchannel("A").getbbox())
    scale = EXTENT * SIDE / max(cutout.size)
    cutout = cutout.resize([max(1, round(side * scale)) for side in cutout.size])
    page = Image.new("RGBA", (SIDE, SIDE), GROUND)
    alpha = Image.new("L", (SIDE, SIDE))
    place = ((SIDE - cutout.width) // 2, (SIDE - cutout.height) // 2)
    page.alpha_composite(cutout, place)
    alpha.paste(cutout.getchannel("A"), place)
    cells = (np.asarray(alpha) / 255).reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean((1, 3))
    return page, cells, cutout.width / cutout.height


def best_window(cosine: NDArray[np.float32], aspect: float) -> tuple[int, int, int, int]:
    """(y0, y1, x0, x1) of a map's cells: of all windows of fitting size and shape, the one with the largest
    sum of what its cells have above the level from which on they speak for the subject.
    """
    side = len(cosine)
    edges = np.meshgrid(*[np.arange(side + 1)] * 4, indexing="ij")
    y0, y1, x0, x1 = (edge.ravel() for edge in edges)
    high, wide = y1 - y0, x1 - x0
    longer = np.maximum(high, wide) / side
    fits = (np.minimum(high, wide) >= 2) & (longer >= SIDES[0]) & (longer <= SIDES[1])
    ratio = wide / np.maximum(high, 1) / np.clip(aspect, 0.5, 2)
    fits &= (ratio >= ASPECTS[0]) & (ratio <= ASPECTS[1])
    y0, y1, x0, x1 = y0[fits], y1[fits], x0[fits], x1[fits]
    level = np.median(cosine)
    sums = np.zeros((side + 1, side + 1))
    sums[1:, 1:] = (cosine - (level + WAY * (cosine.max() - level))).cumsum(0).cumsum(1)
    best = (sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]).argmax()
    return int(y0[best]), int(y1[best]), int(x0[best]), int(x1[best])
