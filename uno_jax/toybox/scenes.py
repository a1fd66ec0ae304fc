"""The named scenes: how each is drawn, its phrases in captions, and how a subject is placed in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uno_jax.toybox import landscapes, rooms, skies, surfaces
from uno_jax.toybox.raster import Picture, to_bytes

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """`feet` is the range of heights of a subject's lowest point, `tint` the colour of the light."""

    draw: Callable[[Generator, int], Picture]
    phrases: tuple[str, ...]
    shadow: Literal["ground", "wall", "none"] = "ground"
    feet: tuple[float, float] = (0.76, 0.95)
    tint: tuple[float, float, float] = WHITE


SCENES: dict[str, Scene] = {
    "grass": Scene(landscapes.grass, ("on the grass", "in a green meadow")),
    "flower field": Scene(landscapes.flower_field, ("in a flower field", "among colorful flowers")),
    "beach": Scene(landscapes.beach, ("on a beach", "on a sandy beach by the sea")),
    "snow": Scene(landscapes.snow, ("in the snow", "in a snowy landscape")),
    "desert": Scene(
        landscapes.desert, ("in the desert", "on a sand dune in the desert"), tint=(1.04, 0.99, 0.92)
    ),
    "forest": Scene(
        landscapes.forest, ("in a forest", "among the trees of a forest"), tint=(0.9, 0.95, 0.86)
    ),
    "city street": Scene(landscapes.city_street, ("on a city street", "on a street in the city")),
    "sunset": Scene(landscapes.sunset, ("at sunset", "in front of a sunset"), tint=(1.0, 0.86, 0.8)),
    "night sky": Scene(
        skies.night_sky, ("under a night sky", "at night under the stars"), tint=(0.8, 0.84, 0.95)
    ),
    "clouds": Scene(skies.clouds, ("in the sky among clouds", "in the clouds"), "none", (0.62, 0.92)),
    "space": Scene(skies.space, ("in outer space", "in space among planets and stars"), "none", (0.62, 0.92)),
    "water": Scene(skies.water, ("on the water", "on a lake"), feet=(0.7, 0.92)),
    "underwater": Scene(
        skies.underwater, ("under water", "at the bottom of the sea"), tint=(0.88, 0.98, 1.0)
    ),
    "brick wall": Scene(surfaces.brick_wall, ("in front of a brick wall",), feet=(0.86, 0.96)),
    "autumn leaves": Scene(
        surfaces.autumn_leaves, ("on autumn leaves", "on fallen leaves"), "wall", (0.66, 0.95)
    ),
    "pebbles": Scene(surfaces.pebbles, ("on pebbles", "on gray stones"), "wall", (0.66, 0.95)),
    "lava": Scene(surfaces.lava, ("on glowing lava", "next to a volcano"), tint=(1.0, 0.88, 0.8)),
    "carpet": Scene(surfaces.carpet, ("on a patterned carpet", "on a rug"), "wall", (0.66, 0.95)),
    "wooden table": Scene(rooms.wooden_table, ("on a wooden table",)),
    "checkered floor": Scene(rooms.checkered_floor, ("on a checkered floor", "on the tiled kitchen floor")),
    "bookshelf": Scene(rooms.bookshelf, ("in front of a bookshelf", "in a library"), feet=(0.88, 0.97)),
    "rainy window": Scene(
        rooms.rainy_window, ("by a rainy window", "in front of a window with rain"), feet=(0.86, 0.96)
    ),
    "stage": Scene(rooms.stage, ("on a stage with a red curtain", "on a theater stage"), feet=(0.78, 0.94)),
    "studio": Scene(rooms.studio, ("in a plain studio", "on a plain background")),
}


def draw_scene(name: str, rng: Generator, size: int) -> NDArray[np.uint8]:
    """The empty scene, (size, size, 3).

    Raises KeyError for an unknown name.
    """
    return to_bytes(SCENES[name].draw(rng, size))
