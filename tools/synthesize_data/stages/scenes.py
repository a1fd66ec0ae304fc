"""Stage 3: subjects, each once in the whole run -> one-line scenes, by a language model or from a list."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.hashed_choice import scattered, share
from ...common.manifest import Failed, Job, Json, SynthesisError
from ...language_models import questions
from ...language_models.questions import Answer, Message, Question, asking, parse, usable
from ..config import ScenesConfig, SynthConfig
from ..pipeline.packaged import read_data
from ..pipeline.stage import Stage, Worker
from ..text import prompts
from ..text.clip_length import clip_length
from ..text.phrases import key, limited

if TYPE_CHECKING:
    from ..pipeline.run import Run

LEAST = 2  # scenes, which a diptych takes
TOKENS_A_WORD = 1.6  # at most, of most English; the model counts in words, the limit is in tokens


class Scenes(Answer):
    scenes: list[str]


def inputs(run: "Run") -> Iterator[Json]:
    seen: set[str] = set()
    for row in run.kept("subjects"):
        for subject in (row.result or {})["subjects"]:
            if key(subject) not in seen:
                seen.add(key(subject))
                yield {
                    "parent": row.id,
                    "subject": subject,
                    "category": row.inputs["category"],
                    "group": row.inputs["group"],
                    "plain": share("plain", key(subject)) < run.config.scenes.plain,
                }


def settings(config: SynthConfig) -> Any:
    """Not the share of plain ones, which the inputs show."""
    own = config.scenes
    limits = [own.backend, own.per_subject, own.max_tokens]
    if own.backend == "model":
        return [*limits, config.llm, prompts.SCENES, prompts.PLAIN_SCENES]
    return [*limits, lists(own)]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.scenes.backend == "template":
        return partial(from_list, config.scenes)
    return asking(config.llm, config.device, "llm", partial(question, config.scenes))


def lists(config: ScenesConfig) -> dict[str, list[str]]:
    """The template backend's scenes."""
    shipped = read_data("scenes.json")
    return {
        "scenes": list(config.scenes or shipped["scenes"]),
        "plain_scenes": list(config.plain_scenes or shipped["plain_scenes"]),
    }


def check(config: SynthConfig) -> None:
    """Raises SynthesisError for settings that no scene can come of."""
    own = config.scenes
    if own.backend == "model":
        questions.check(config.llm, "llm")
    clip_length("")
    if own.per_subject < LEAST:
        raise SynthesisError(f"scenes.per_subject must be {LEAST} or more, got {own.per_subject}")
    if own.max_tokens < 3:
        raise SynthesisError(
            f"scenes.max_tokens must be 3 or more (start, end, a word), got {own.max_tokens}"
        )
    if not 0 <= own.plain <= 1:
        raise SynthesisError(f"scenes.plain is a share from 0 to 1, got {own.plain}")
    if own.backend == "template":
        for name, texts in lists(own).items():
            usable, dropped = limited(texts, len(texts), partial(too_long, own))
            if dropped or len(usable) < LEAST:
                raise SynthesisError(
                    f"scenes.{name}: {LEAST} or more different scenes of at most {own.max_tokens}"
                    f" tokens of CLIP are wanted; {len(usable)} of {len(texts)} are (others: {dropped})"
                )


def from_list(config: ScenesConfig, jobs: Sequence[Job]) -> list[Json | Failed]:
    results, listed = [], lists(config)
    for job in jobs:
        texts = listed["plain_scenes" if job.inputs["plain"] else "scenes"]
        order = scattered(len(texts), "scenes", key(job.inputs["subject"]))
        results.append(result(config, [texts[index] for index in islice(order, config.per_subject)]))
    return results


def question(config: ScenesConfig, inputs: Json) -> Question:
    text = (prompts.PLAIN_SCENES if inputs["plain"] else prompts.SCENES).format(
        subject=inputs["subject"],
        category=inputs["category"],
        count=config.per_subject,
        max_words=max(1, min(40, int((config.max_tokens - 2) / TOKENS_A_WORD))),
    )
    return Question((Message("user", text),), partial(read, config))


def read(config: ScenesConfig, text: str) -> Json:
    """Raises Malformed when the answer has too few scenes that can be used."""
    return usable(result(config, parse(text, Scenes).scenes))


def result(config: ScenesConfig, texts: Sequence[str]) -> Json | Failed:
    scenes, dropped = limited(texts, config.per_subject, partial(too_long, config))
    if len(scenes) < LEAST:
        return Failed(f"{len(scenes)} scenes where a diptych takes {LEAST} (dropped: {dropped})")
    return {"scenes": scenes, "dropped": dropped}


def too_long(config: ScenesConfig, text: str) -> bool:
    return clip_length(text) > config.max_tokens


STAGE = Stage(
    "scenes", inputs, settings, worker, batch_size=lambda config: config.scenes.batch_size, check=check
)
