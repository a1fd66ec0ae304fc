"""Stage 3: subjects, each once per run -> one-line scenes, by a language model or from a list."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...common.errors import ToolError
from ...common.hashed_choice import hash_share, scattered
from ...common.manifest import Failed, Job, Json, result_of
from ...common.worker import Worker
from ...language_models.conversation import Message
from ...language_models.load import check_model_config, question_worker
from ...language_models.questions import Answer, Question, parse_answer, require_usable
from ..config import ScenesConfig, SynthConfig
from ..pipeline.packaged import read_data
from ..pipeline.stage import Rows, Stage
from ..text import prompts
from ..text.clip_length import clip_length
from ..text.phrases import apply_limits, key

LEAST = 2  # scenes that a diptych needs
TOKENS_PER_WORD = 1.6  # upper bound for most English; the model counts words, the limit is in tokens


class Scenes(Answer):
    scenes: list[str]


def inputs(run: Rows) -> Iterator[Json]:
    seen: set[str] = set()
    for row in run.kept("subjects"):
        for subject in result_of(row)["subjects"]:
            if key(subject) not in seen:
                seen.add(key(subject))
                yield {
                    "parent": row.id,
                    "subject": subject,
                    "category": row.inputs["category"],
                    "group": row.inputs["group"],
                    "plain": hash_share("plain", key(subject)) < run.config.scenes.plain,
                }


def settings(config: SynthConfig) -> Any:
    """Without the share of plain backgrounds, which the inputs show."""
    own = config.scenes
    limits = [own.backend, own.per_subject, own.max_tokens]
    if own.backend == "model":
        return [*limits, config.llm, prompts.SCENES, prompts.PLAIN_SCENES]
    return [*limits, scene_lists(own)]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.scenes.backend == "template":
        return partial(from_list, config.scenes)
    return question_worker(config.llm, config.device, "llm", partial(make_question, config.scenes))


def scene_lists(config: ScenesConfig) -> dict[str, list[str]]:
    """The template backend's scenes."""
    shipped = read_data("scenes.json")
    return {
        "scenes": list(config.scenes or shipped["scenes"]),
        "plain_scenes": list(config.plain_scenes or shipped["plain_scenes"]),
    }


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for settings that cannot give a scene."""
    own = config.scenes
    if own.backend == "model":
        check_model_config(config.llm, "llm")
    clip_length("")
    if own.per_subject < LEAST:
        raise ToolError(f"scenes.per_subject must be {LEAST} or more, got {own.per_subject}")
    if own.max_tokens < 3:
        raise ToolError(f"scenes.max_tokens must be 3 or more (start, end, a word), got {own.max_tokens}")
    if not 0 <= own.plain <= 1:
        raise ToolError(f"scenes.plain must be between 0 and 1, got {own.plain}")
    if own.backend == "template":
        for name, texts in scene_lists(own).items():
            usable, dropped = apply_limits(texts, len(texts), partial(too_long, own))
            if dropped or len(usable) < LEAST:
                raise ToolError(
                    f"scenes.{name}: expected {LEAST} or more different scenes of at most {own.max_tokens}"
                    f" CLIP tokens; {len(usable)} of {len(texts)} are usable (dropped: {dropped})"
                )


def from_list(config: ScenesConfig, jobs: Sequence[Job]) -> list[Json | Failed]:
    results, listed = [], scene_lists(config)
    for job in jobs:
        texts = listed["plain_scenes" if job.inputs["plain"] else "scenes"]
        order = scattered(len(texts), "scenes", key(job.inputs["subject"]))
        results.append(limited_result(config, [texts[index] for index in islice(order, config.per_subject)]))
    return results


def make_question(config: ScenesConfig, inputs: Json) -> Question:
    text = (prompts.PLAIN_SCENES if inputs["plain"] else prompts.SCENES).format(
        subject=inputs["subject"],
        category=inputs["category"],
        count=config.per_subject,
        max_words=max(1, min(40, int((config.max_tokens - 2) / TOKENS_PER_WORD))),
    )
    return Question((Message("user", text),), partial(read_answer, config))


def read_answer(config: ScenesConfig, text: str) -> Json:
    """Raises Malformed when the answer has too few usable scenes."""
    return require_usable(limited_result(config, parse_answer(text, Scenes).scenes))


def limited_result(config: ScenesConfig, texts: Sequence[str]) -> Json | Failed:
    scenes, dropped = apply_limits(texts, config.per_subject, partial(too_long, config))
    if len(scenes) < LEAST:
        return Failed(f"{len(scenes)} scenes where a diptych takes {LEAST} (dropped: {dropped})")
    return {"scenes": scenes, "dropped": dropped}


def too_long(config: ScenesConfig, text: str) -> bool:
    return clip_length(text) > config.max_tokens


STAGE = Stage(
    "scenes",
    inputs,
    settings,
    worker,
    batch_size=attrgetter("scenes.batch_size"),
    check_settings=check_settings,
)
