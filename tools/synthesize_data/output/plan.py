"""What a run's settings ask for, before anything is made: rows of each stage at most, and pictures with
their sizes.
"""

from collections.abc import Iterator

from ...common.manifest import Json
from ..config import SynthConfig
from ..stages.taxonomy import choose_groups


def plan_run(config: SynthConfig) -> list[Json]:
    """The stages that draw or judge, as JSON objects: `stage`, `rows` (as if every row were kept), and of
    pictures by uno_jax `width`, `height`, `steps` and `references`.

    Raises ToolError for a taxonomy that cannot be read.
    """
    categories = limited(config, sum(map(len, choose_groups(config.taxonomy).values())))
    subjects = categories * len(config.subjects.manners) * config.subjects.per_manner
    diptychs = limited(config, limited(config, subjects) * config.diptychs.per_subject)
    seconds = round(diptychs * config.diptychs.two)
    own = config.second_reference
    redrawn = {"width": own.size[0], "height": own.size[1], "steps": own.steps, "references": 1}
    return [
        {"stage": "subjects", "rows": subjects},
        *panels(config, diptychs, seconds),
        {"stage": "filter-dino", "rows": diptychs},
        {"stage": "filter-vlm", "rows": diptychs},
        {"stage": "detect", "rows": seconds},
        {"stage": "second-reference", "rows": seconds, **({} if own.crop_as_reference else redrawn)},
        {"stage": "filters of second references", "rows": seconds},
    ]


def limited(config: SynthConfig, rows: int) -> int:
    return min(rows, config.limit) if config.limit else rows


def panels(config: SynthConfig, diptychs: int, seconds: int) -> Iterator[Json]:
    """Pictures of the stage generate: diptychs whole, or panels one by one."""
    own, (width, height) = config.generate, config.diptychs.panels[0]
    if own.second == "completed":
        across = config.diptychs.layouts[0] == "left-right"
        size = {"width": width * (2 if across else 1), "height": height * (1 if across else 2)}
        yield {"stage": "generate, diptychs", "rows": diptychs, **size, "steps": own.steps, "references": 0}
        return
    shape = {"width": width, "height": height, "steps": own.steps}
    if not own.left:
        yield {"stage": "generate, first panels", "rows": diptychs + seconds, **shape, "references": 0}
    yield {"stage": "generate, second panels", "rows": diptychs - seconds, **shape, "references": 1}
    yield {"stage": "generate, with another", "rows": seconds, **shape, "references": 2}
