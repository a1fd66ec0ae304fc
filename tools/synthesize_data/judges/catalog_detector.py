"""Searches for a subject by its picture instead of its name: a stand-in for open-vocabulary detectors.

The small run has no detector's weights, but pictures of all its subjects. The search looks at pixels only,
with a network that was trained neither by this project nor on its data; the name only selects the picture to
look for. Unlike a detector it cannot find things of which there is no picture. `python -m benchmarks.judge`
measures how often it is right.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uno_jax.support.images import ImageError, read_rgba
from uno_jax.support.json_files import read_json
from uno_jax.support.words import counted

from ...common.errors import ToolError
from ...common.manifest import Failed
from ..config import DetectConfig
from ..pipeline.packaged import in_uno_jax
from ..text.phrases import key
from .detector import Found
from .features import EfficientNetLite0, normalize

TOYBOX = "toybox"
GROUND = "gray"
SIDE = 320  # pixels that pictures are resized to
CELL = 32  # pixels of a cell of the map
EXTENT = 0.42  # longer side of a subject beside another one, as a share of the picture
COVERED = 0.3  # share of a cell that a subject must cover for the cell to count as its own
# Where between the median and the largest cosine cells start to count for a box. Of 100 subjects of the train
# split, each beside another one, 0.4 found 91 %, 0.3 and 0.5 found 86 % and 82 %.
WAY = 0.4
SIDES = (0.28, 0.6)  # range of a box's longer side, as shares of the picture
ASPECTS = (0.6, 1.7)  # range of a box's aspect ratio over the subject's own


class Catalog:
    """A folder of cut-outs with a manifest.json, [{"name", "file"}]; "toybox" are the subjects of uno_jax."""

    def __init__(self, config: DetectConfig, device: str):
        name = config.catalog
        if not name:
            raise ToolError(
                "detect.catalog is empty: name a folder of pictures with a manifest.json, or toybox"
            )
        self.files = read_catalog(in_uno_jax("toybox", "assets") if name == TOYBOX else Path(name))
        self.network = EfficientNetLite0(device)
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
        cosines = normalize(cells) @ subject.T
        aspect *= image.height / image.width  # the map is square whatever the picture is
        y0, y1, x0, x1 = best_window(cosines.max(2), aspect)
        across, down = image.width / len(cells), image.height / len(cells)
        box = (round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down))
        return Found(box, float(cosines.max((0, 1)).mean()))

    def look_up(self, name: str) -> tuple[NDArray[np.float32], float]:
        """Returns a subject's cells, each of length 1, and its aspect ratio.

        Raises KeyError.
        """
        plain = key(name)
        if plain not in self.files:
            raise KeyError(f"{name!r} is not in the catalogue of {len(self.files)} subjects")
        if plain not in self.known:
            page, covered, aspect = set_on_ground(self.files[plain])
            # A thin subject covers no cell well: take its most covered cells.
            least = min(COVERED, np.sort(covered, axis=None)[-3])
            self.known[plain] = normalize(self.network.maps([page], SIDE)[0][covered >= least]), aspect
        return self.known[plain]


def read_catalog(folder: Path) -> dict[str, Path]:
    """Returns files by normalised name.

    Raises ToolError.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ToolError(f'detect.catalog: no {path}; it is a list of {{"name", "file"}}')
    entries = read_json(path, ToolError)
    try:
        files = {key(entry["name"]): folder / entry["file"] for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ToolError(
            f'{path} is not a list of {{"name", "file"}}: {type(error).__name__} {error}'
        ) from None
    if missing := [file for file in files.values() if not os.path.isfile(file)]:
        raise ToolError(f"{path} names {counted(len(missing), 'missing file')}, the first {missing[0]}")
    return files


def set_on_ground(file: Path) -> tuple[Image.Image, NDArray[np.float64], float]:
    """Returns a cut-out in the middle of a plain page, in the size of EXTENT; the share of each cell that it
    covers; its aspect ratio.

    Raises OSError.
    """
    try:
        cutout = read_rgba(file)
    except ImageError as error:
        reason = str(error).removeprefix(f"{file}: ")
        raise OSError(f"{file} is not a readable picture: {reason}") from None
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
    """Returns (y0, y1, x0, x1) in cells: of all windows of plausible size and shape, the one with the largest
    sum of its cells' cosines above the level at which they count for the subject.
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
