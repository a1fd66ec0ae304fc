"""Stage 4: a subject and two of its scenes -> the prompt of a picture of two panels, and a caption for each.

All choices depend on the parent row's id, the seed and the diptych's number: existing diptychs stay as they
are when more diptychs are requested or subjects are added.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from ...common.errors import ToolError
from ...common.hashed_choice import hash_number, hash_share, scattered
from ...common.manifest import Failed, Job, Json, Row, result_of
from ...common.worker import Worker
from ..config import DiptychsConfig, SynthConfig
from ..pipeline.stage import Rows, Stage
from ..text.phrases import key, with_article
from ..text.templates import template_fields

PROMPTS = (
    "A diptych of two photographs, {arrangement}, of the very same {subject}."
    " The {first} one is taken {scene_1}, the {second} one {scene_2}.",
    "Two pictures {arrangement} show one and the same {subject}, alike in every detail:"
    " in the {first} picture {scene_1}, in the {second} picture {scene_2}.",
    "Split image with two panels {arrangement}. The {first} panel shows {a_subject} {scene_1}."
    " The {second} panel shows exactly this {subject} again, from another side, {scene_2}.",
)
PROMPTS_TWO = (
    "A diptych of two photographs, {arrangement}, of the very same {subject}."
    " The {first} one shows it alone {scene_1}, the {second} one together with {a_other} {scene_2}.",
    "Two pictures {arrangement} show one and the same {subject}, alike in every detail:"
    " in the {first} picture {scene_1}, in the {second} picture next to {a_other} {scene_2}.",
    "Split image with two panels {arrangement}. The {first} panel shows {a_subject} {scene_1}."
    " The {second} panel shows exactly this {subject} again and, apart from it, {a_other}, both {scene_2}.",
)
PLACES = {
    "left-right": ("left", "right", "side by side"),
    "top-bottom": ("top", "bottom", "one above the other"),
}
FIELDS = ("subject", "a_subject", "scene_1", "scene_2", "first", "second", "arrangement")
SIDE = 16  # the sides of generated pictures are multiples of this many pixels

Ring = list[tuple[int, Json]]


def inputs(run: Rows) -> Iterator[Json]:
    config = run.config.diptychs
    groups = {row.inputs["group"] for row in run.kept("taxonomy")}
    if config.two > 0 and len(groups) == 1:
        raise ToolError(
            f"diptychs.two is {config.two}, which needs subjects of two groups; the run has only"
            f" {groups.pop()!r}. Add a group to the taxonomy, or pass --diptychs.two 0"
        )
    rows = run.kept("scenes")
    ring = sorted(
        ((hash_number("ring", key(row.inputs["subject"])), row.inputs) for row in rows), key=lambda at: at[0]
    )
    for row in rows:
        yield from subject_diptychs(config, row, ring)


def subject_diptychs(config: DiptychsConfig, row: Row, ring: Ring) -> Iterator[Json]:
    """Yields `per_subject` diptychs, or as many as there are ordered pairs of scenes."""
    scenes = result_of(row)["scenes"]
    pairs = [(one, two) for one in scenes for two in scenes if one != two]
    order = islice(scattered(len(pairs), "pairs", row.id, config.seed), config.per_subject)
    for number, index in enumerate(order):
        at = (row.id, config.seed, number)
        other = None
        if hash_share("two", *at) < config.two:
            other = choose_partner(ring, row.inputs["group"], hash_number("other", *at))
        yield {
            "parent": row.id,
            "subject": row.inputs["subject"],
            "category": row.inputs["category"],
            "group": row.inputs["group"],
            "scene_1": pairs[index][0],
            "scene_2": pairs[index][1],
            "other": other and other["subject"],
            "other_category": other and other["category"],
            "layout": pick(config.layouts, "layout", *at),
            "panel": list(pick(config.panels, "panel", *at)),
            "seed": hash_number("seed", *at) % 2**31,
            "template": hash_number("template", *at) % len(templates(config, other is not None)),
        }


def choose_partner(ring: Ring, group: str, at: int) -> Json | None:
    """The next subject of another group on the ring; adding a subject to the run changes few choices."""
    start = bisect(ring, at, key=lambda entry: entry[0])
    for step in range(len(ring)):
        candidate = ring[(start + step) % len(ring)][1]
        if candidate["group"] != group:
            return candidate
    return None


def pick(choices: Sequence[Any], *key: Any) -> Any:
    return choices[hash_number(*key) % len(choices)]


def templates(config: DiptychsConfig, two: bool) -> tuple[str, ...]:
    return (config.prompts_two or PROMPTS_TWO) if two else (config.prompts or PROMPTS)


def settings(config: SynthConfig) -> Any:
    """The prompt templates; everything else is part of the inputs."""
    own = config.diptychs
    return [templates(own, False), templates(own, True), own.caption, own.caption_two]


def worker(config: SynthConfig, folder: Path) -> Worker:
    return partial(fill_prompts, config.diptychs)


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for settings that cannot give a diptych."""
    own = config.diptychs
    for prompt in own.prompts:
        template_fields(prompt, FIELDS, "diptychs.prompts")
    for prompt in own.prompts_two:
        if not {"other", "a_other"} & set(
            template_fields(prompt, (*FIELDS, "other", "a_other"), "diptychs.prompts_two")
        ):
            raise ToolError(f"diptychs.prompts_two: {prompt!r} must contain {{other}} or {{a_other}}")
    template_fields(own.caption, ("subject", "a_subject", "scene"), "diptychs.caption")
    template_fields(
        own.caption_two, ("subject", "a_subject", "other", "a_other", "scene"), "diptychs.caption_two"
    )
    if own.per_subject < 1:
        raise ToolError(f"diptychs.per_subject must be 1 or more, got {own.per_subject}")
    if not 0 <= own.two <= 1:
        raise ToolError(f"diptychs.two must be between 0 and 1, got {own.two}")
    if not own.layouts or set(own.layouts) - set(PLACES):
        raise ToolError(f"diptychs.layouts: known are {', '.join(PLACES)}, got {sorted(own.layouts)}")
    if not own.panels:
        raise ToolError("diptychs.panels is empty: give a (width, height)")
    for panel in own.panels:
        if len(panel) != 2 or any(side < SIDE or side % SIDE for side in panel):
            raise ToolError(f"diptychs.panels: sides must be multiples of {SIDE} pixels, got {tuple(panel)}")


def fill_prompts(config: DiptychsConfig, jobs: Sequence[Job]) -> list[Json | Failed]:
    return [prompt_and_captions(config, job.inputs) for job in jobs]


def prompt_and_captions(config: DiptychsConfig, inputs: Json) -> Json:
    """caption_2 belongs to the target: both subjects in the second scene."""
    first, second, arrangement = PLACES[inputs["layout"]]
    subject, other = inputs["subject"], inputs["other"]
    nouns = {"subject": subject, "a_subject": with_article(subject)}
    caption, both = config.caption, nouns
    if other is not None:
        caption, both = config.caption_two, {**nouns, "other": other, "a_other": with_article(other)}
    prompt = templates(config, other is not None)[inputs["template"]].format(
        **both,
        scene_1=inputs["scene_1"],
        scene_2=inputs["scene_2"],
        first=first,
        second=second,
        arrangement=arrangement,
    )
    return {
        "prompt": prompt,
        "caption_1": config.caption.format(**nouns, scene=inputs["scene_1"]),
        "caption_2": caption.format(**both, scene=inputs["scene_2"]),
    }


STAGE = Stage("diptychs", inputs, settings, worker, check_settings=check_settings)
