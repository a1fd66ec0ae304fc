"""Stage 2: categories -> specific subjects in several manners, by a language model or from templates."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...common.errors import ToolError
from ...common.manifest import Failed, Job, Json
from ...common.worker import Worker
from ...language_models.conversation import Message
from ...language_models.load import check_model_config, question_worker
from ...language_models.questions import Answer, Question, parse_answer, require_usable
from ..config import SubjectsConfig, SynthConfig
from ..pipeline.packaged import read_data
from ..pipeline.stage import Rows, Stage
from ..text import prompts
from ..text.phrases import TOO_MANY, apply_limits
from ..text.templates import fill_templates, template_fields

SPARE = 4  # texts to make from templates per subject, because limits drop some


class Subjects(Answer):
    subjects: list[str]


def inputs(run: Rows) -> Iterator[Json]:
    for row in run.kept("taxonomy"):
        for manner in run.config.subjects.manners:
            yield {"parent": row.id, **row.inputs, "manner": manner}


def settings(config: SynthConfig) -> Any:
    """Without the manners, which are part of the inputs."""
    own = config.subjects
    limits = [own.backend, own.per_manner, own.max_words]
    if own.backend == "model":
        return [*limits, config.llm, prompts.SUBJECTS, list(prompts.MANNERS.items())]
    return [*limits, own.templates, read_data("subjects.json")]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.subjects.backend == "template":
        return partial(from_templates, config.subjects)
    return question_worker(config.llm, config.device, "llm", partial(make_question, config.subjects))


def check_settings(config: SynthConfig) -> None:
    """Raises ToolError for settings that cannot give a subject."""
    own = config.subjects
    if own.backend == "model":
        check_model_config(config.llm, "llm")
    for field in ("per_manner", "max_words"):
        if getattr(own, field) < 1:
            raise ToolError(f"subjects.{field} must be 1 or more, got {getattr(own, field)}")
    if unknown := [manner for manner in own.manners if manner not in prompts.MANNERS]:
        raise ToolError(
            f"subjects.manners: unknown manner {unknown[0]!r}; known are {', '.join(prompts.MANNERS)}"
        )
    for template in own.templates:
        template_fields(template, ["category", *read_data("subjects.json")["words"]], "subjects.templates")


def from_templates(config: SubjectsConfig, jobs: Sequence[Job]) -> list[Json | Failed]:
    shipped = read_data("subjects.json")
    results = []
    for job in jobs:
        category, manner = job.inputs["category"], job.inputs["manner"]
        templates = config.templates or shipped["templates"][manner]
        texts = fill_templates(templates, shipped["words"], {"category": category}, category, manner)
        listed = limited_result(config, list(islice(texts, SPARE * config.per_manner)))
        if not isinstance(listed, Failed):
            listed["dropped"].pop(TOO_MANY, None)
        results.append(listed)
    return results


def make_question(config: SubjectsConfig, inputs: Json) -> Question:
    text = prompts.SUBJECTS.format(
        count=config.per_manner,
        max_words=config.max_words,
        category=inputs["category"],
        group=inputs["group"],
        manner=prompts.MANNERS[inputs["manner"]],
    )
    return Question((Message("user", text),), partial(read_answer, config))


def read_answer(config: SubjectsConfig, text: str) -> Json:
    """Raises Malformed when no subject in the answer is usable."""
    return require_usable(limited_result(config, parse_answer(text, Subjects).subjects))


def limited_result(config: SubjectsConfig, texts: Sequence[str]) -> Json | Failed:
    subjects, dropped = apply_limits(
        texts, config.per_manner, lambda text: len(text.split()) > config.max_words
    )
    if not subjects:
        return Failed(f"no subject within {config.max_words} words among {len(texts)} (dropped: {dropped})")
    return {"subjects": subjects, "dropped": dropped}


STAGE = Stage(
    "subjects",
    inputs,
    settings,
    worker,
    batch_size=attrgetter("subjects.batch_size"),
    check_settings=check_settings,
)
