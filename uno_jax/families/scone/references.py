"""The size that a reference is brought to before it is encoded (Scone `data/transforms.py`)."""

from typing import NamedTuple

MOST_PIXELS = 1_806_336  # 14 * 14 * 96 * 96


class SizeRule(NamedTuple):
    """Longest and shortest side in pixels, and what both are multiples of. Where a long picture cannot keep
    both, its shortest side gives way.
    """

    longest: int
    shortest: int
    stride: int


VAE_RULE = SizeRule(1024, 512, 16)
VIT_RULE = SizeRule(980, 224, 14)
"""Of sampling, applied to a picture that has been brought to its size for the autoencoder."""
TRAINED_VIT_RULE = SizeRule(518, 224, 14)


def ruled_size(width: int, height: int, rule: SizeRule) -> tuple[int, int]:
    """Width and height of a picture by a rule."""
    factor = max(min(rule.longest / max(width, height), 1.0), rule.shortest / min(width, height))
    size = _scaled((width, height), factor, rule.stride)
    if size[0] * size[1] > MOST_PIXELS:
        size = _scaled(size, MOST_PIXELS / (size[0] * size[1]), rule.stride)
    if max(size) > rule.longest:
        size = _scaled(size, rule.longest / max(size), rule.stride)
    return size


def _scaled(size: tuple[int, int], factor: float, stride: int) -> tuple[int, int]:
    """Rounded to pixels, then to the nearest multiples of the stride; halves go to even numbers."""
    width, height = (max(stride, round(round(side * factor) / stride) * stride) for side in size)
    return width, height
