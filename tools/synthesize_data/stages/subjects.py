"""Stage 2: categories -> finer subjects in several manners, by a language model or from templates."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.manifest import Failed, Job, Json, SynthesisError
from ...language_models import questions
from ...language_models.questions import Answer, Message, Question, asking, parse, usable
from ..config import SubjectsConfig, SynthConfig
from ..pipeline.packaged import read_data
from ..pipeline.stage import Stage, Worker
from ..text import prompts
from ..text.phrases import TOO_MANY, limited
from ..text.templates import fields, filled

if TYPE_CHECKING:
    from ..pipeline.run import Run

SPARE = 4  # texts from templates for one that is wanted, since limits drop some


class Subjects(Answer):
    subjects: list[str]


def inputs(run: "Run") -> Iterator[Json]:
    for row in run.kept("taxonomy"):
        for manner in run.config.subjects.manners:
            yield {"parent": row.id, **row.inputs, "manner": manner}


def settings(config: SynthConfig) -> Any:
    """Not the manners, which are in the inputs."""
    own = config.subjects
    limits = [own.backend, own.per_manner, own.max_words]
    if own.backend == "model":
        return [*limits, config.llm, prompts.SUBJECTS, list(prompts.MANNERS.items())]
    return [*limits, own.templates, read_data("subjects.json")]


def worker(config: SynthConfig, folder: Path) -> Worker:
    if config.subjects.backend == "template":
        return partial(from_templates, config.subjects)
    return asking(config.llm, config.device, "llm", partial(question, config.subjects))


def check(config: SynthConfig) -> None:
    """Raises SynthesisError for settings that no subject can come of."""
    own = config.subjects
    if own.backend == "model":
        questions.check(config.llm, "llm")
    for field in ("per_manner", "max_words"):
        if getattr(own, field) < 1:
            raise SynthesisError(f"subjects.{field} must be 1 or more, got {getattr(own, field)}")
    if unknown := [manner for manner in own.manners if manner not in prompts.MANNERS]:
        raise SynthesisError(
            f"subjects.manners: no manner {unknown[0]!r}; there are {', '.join(prompts.MANNERS)}"
        )
    for template in own.templates:
        fields(template, ["category", *read_data("subjects.json")["words"]], "subjects.templates")


def from_templates(config: SubjectsConfig, jobs: Sequence[Job]) -> list[Json | Failed]:
    shipped = read_data("subjects.json")
    results = []
    for job in jobs:
        category, manner = job.inputs["category"], job.inputs["manner"]
        templates = config.templates or shipped["templates"][manner]
        texts = filled(templates, shipped["words"], {"category": category}, category, manner)
        listed = result(config, list(islice(texts, SPARE * config.per_manner)))
        if not isinstance(listed, Failed):
            listed["dropped"].pop(TOO_MANY, None)
        results.append(listed)
    return results


def question(config: SubjectsConfig, inputs: Json) -> Question:
    text = prompts.SUBJECTS.format(
        count=config.per_manner,
        max_words=config.max_words,
        category=inputs["category"],
        group=inputs["group"],
        manner=prompts.MANNERS[inputs["manner"]],
    )
    return Question((Message("user", text),), partial(read, config))


def read(config: SubjectsConfig, text: str) -> Json:
    """Raises Malformed when no subject of the answer can be used."""
    return usable(result(config, parse(text, Subjects).subjects))


def result(config: SubjectsConfig, texts: Sequence[str]) -> Json | Failed:
    subjects, dropped = limited(texts, config.per_manner, lambda text: len(text.split()) > config.max_words)
    if not subjects:
        return Failed(f"no subject within {config.max_words} words among {len(texts)} (dropped: {dropped})")
    return {"subjects": subjects, "dropped": dropped}


STAGE = Stage(
    "subjects", inputs, settings, worker, batch_size=lambda config: config.subjects.batch_size, check=check
)
