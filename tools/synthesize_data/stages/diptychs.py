"""Stage 4: a subject and two of its scenes -> the prompt of a picture of two panels, and a caption for each.

Everything is drawn from the parent row's id, the seed and the diptych's number, so that asking for more
diptychs, or having more subjects in the run, leaves those there are as they were.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.hashed_choice import draw, scattered, share
from ...common.manifest import Job, Json, Row, SynthesisError
from ..config import DiptychsConfig, SynthConfig
from ..pipeline.stage import Stage, Worker
from ..text.phrases import key, with_article
from ..text.templates import fields

if TYPE_CHECKING:
    from ..pipeline.run import Run

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
SIDE = 16  # pixels, of which the sides of generated pictures are multiples

Ring = list[tuple[int, Json]]


def inputs(run: "Run") -> Iterator[Json]:
    config = run.config.diptychs
    groups = {row.inputs["group"] for row in run.kept("taxonomy")}
    if config.two > 0 and len(groups) == 1:
        raise SynthesisError(
            f"diptychs.two is {config.two}, which takes subjects of two groups; the run has only"
            f" {groups.pop()!r}. Add a group to the taxonomy, or pass --diptychs.two 0"
        )
    rows = run.kept("scenes")
    ring = sorted(
        ((draw("ring", key(row.inputs["subject"])), row.inputs) for row in rows), key=lambda at: at[0]
    )
    for row in rows:
        yield from of_subject(config, row, ring)


def of_subject(config: DiptychsConfig, row: Row, ring: Ring) -> Iterator[Json]:
    """As many diptychs as asked for and as there are ordered pairs of scenes."""
    scenes = (row.result or {})["scenes"]
    pairs = [(one, two) for one in scenes for two in scenes if one != two]
    order = islice(scattered(len(pairs), "pairs", row.id, config.seed), config.per_subject)
    for number, index in enumerate(order):
        at = (row.id, config.seed, number)
        other = None
        if share("two", *at) < config.two:
            other = partner(ring, row.inputs["group"], draw("other", *at))
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
            "seed": draw("seed", *at) % 2**31,
            "template": draw("template", *at) % len(wordings(config, other is not None)),
        }


def partner(ring: Ring, group: str, at: int) -> Json | None:
    """The next subject of another group on the ring. A subject that comes to the run changes few choices."""
    start = bisect(ring, at, key=lambda entry: entry[0])
    for step in range(len(ring)):
        candidate = ring[(start + step) % len(ring)][1]
        if candidate["group"] != group:
            return candidate
    return None


def pick(choices: Sequence[Any], *key: Any) -> Any:
    return choices[draw(*key) % len(choices)]


def wordings(config: DiptychsConfig, two: bool) -> tuple[str, ...]:
    return (config.prompts_two or PROMPTS_TWO) if two else (config.prompts or PROMPTS)


def settings(config: SynthConfig) -> Any:
    """The wordings; the rest is in the inputs."""
    own = config.diptychs
    return [wordings(own, False), wordings(own, True), own.caption, own.caption_two]


def worker(config: SynthConfig, folder: Path) -> Worker:
    return partial(worded, config.diptychs)


def check(config: SynthConfig) -> None:
    """Raises SynthesisError for settings that no diptych can come of."""
    own = config.diptychs
    for prompt in own.prompts:
        fields(prompt, FIELDS, "diptychs.prompts")
    for prompt in own.prompts_two:
        if not {"other", "a_other"} & set(
            fields(prompt, (*FIELDS, "other", "a_other"), "diptychs.prompts_two")
        ):
            raise SynthesisError(f"diptychs.prompts_two: {prompt!r} names no {{other}} or {{a_other}}")
    fields(own.caption, ("subject", "a_subject", "scene"), "diptychs.caption")
    fields(own.caption_two, ("subject", "a_subject", "other", "a_other", "scene"), "diptychs.caption_two")
    if own.per_subject < 1:
        raise SynthesisError(f"diptychs.per_subject must be 1 or more, got {own.per_subject}")
    if not 0 <= own.two <= 1:
        raise SynthesisError(f"diptychs.two is a share from 0 to 1, got {own.two}")
    if not own.layouts or set(own.layouts) - set(PLACES):
        raise SynthesisError(f"diptychs.layouts: {', '.join(PLACES)} are known, got {sorted(own.layouts)}")
    if not own.panels:
        raise SynthesisError("diptychs.panels is empty: name a (width, height)")
    for panel in own.panels:
        if len(panel) != 2 or any(side < SIDE or side % SIDE for side in panel):
            raise SynthesisError(f"diptychs.panels: sides are multiples of {SIDE} pixels, got {tuple(panel)}")


def worded(config: DiptychsConfig, jobs: Sequence[Job]) -> list[Json]:
    return [prompt_and_captions(config, job.inputs) for job in jobs]


def prompt_and_captions(config: DiptychsConfig, inputs: Json) -> Json:
    """caption_2 is the target's: both subjects in the second scene."""
    first, second, arrangement = PLACES[inputs["layout"]]
    subject, other = inputs["subject"], inputs["other"]
    nouns = {"subject": subject, "a_subject": with_article(subject)}
    caption, both = config.caption, nouns
    if other is not None:
        caption, both = config.caption_two, {**nouns, "other": other, "a_other": with_article(other)}
    prompt = wordings(config, other is not None)[inputs["template"]].format(
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


STAGE = Stage("diptychs", inputs, settings, worker, check=check)
