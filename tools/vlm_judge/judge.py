"""Cases -> answers of a vision-language model, in several rounds; each answer is asked for only once.

An answer is a row of a manifest, whose id is a hash of the model's name and sampling, the wording, the bytes
of references and picture, the prompt and the round. When any of them changes, the row is no longer valid; the
files' paths do not matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from PIL import Image
from tqdm import tqdm

from uno_jax.support.bounds import BatchSize, Bounds
from uno_jax.support.digests import file_hash
from uno_jax.support.images import ImageError, read_image

from ..common.errors import ToolError
from ..common.manifest import Failed, Job, Json, Manifest, Row, identity, not_in_id
from ..common.memory import Halving
from ..common.readable import read_and_work
from ..language_models.config import ModelConfig
from ..language_models.conversation import LanguageModel, Message
from ..language_models.load import check_model_config, load_model
from ..language_models.questions import Question, ask
from .cases import Case
from .forms import ASPECTS, FORMS, SUBJECTS

SETTING = "judge"  # name of the model's settings in error messages


@dataclass(frozen=True)
class JudgeConfig:
    """How to ask. Fields made by `not_in_id` are not part of an answer's id."""

    form: Literal["subjects", "context"] = not_in_id("subjects")
    """What is asked: subjects, one question with a number for each subject; context, prompt following and
    subject consistency apart, as OmniContext has it, in other words: its published scores do not compare.
    """
    rounds: Annotated[int, Bounds(1, 1_000)] = not_in_id(3)
    """Number of answers about each picture."""
    side: Annotated[int, Bounds(1, 16_384)] = 1024
    """Longest side in pixels at which pictures are shown; smaller ones are not resized."""
    batch_size: BatchSize = not_in_id(16)
    """Questions at a time; a killed run loses at most that many answers."""
    device: str = not_in_id("auto")
    """torch device of a model in this process, such as cuda:1; auto: an accelerator if there is one."""
    retry_failed: bool = not_in_id(False)
    """Ask again for answers that failed."""
    vlm: Annotated[ModelConfig, tyro.conf.arg(name="")] = ModelConfig()


def check_settings(config: JudgeConfig) -> None:
    """Raises ToolError for settings that cannot be used."""
    check_model_config(config.vlm, SETTING)
    if config.rounds > 1 and config.vlm.temperature == 0:
        raise ToolError(
            f"--rounds {config.rounds} at --temperature 0 would give the same answer in every round: pass"
            " --rounds 1, or a higher temperature"
        )


def round_jobs(case: Case, digests: Mapping[Path, str], config: JudgeConfig) -> list[Job]:
    """The questions about a picture, round by round, identified by the content of its files."""
    shown = {"references": [digests[path] for path in case.references], "picture": digests[case.picture]}
    jobs = []
    for number in range(1, config.rounds + 1):
        for aspect in FORMS[config.form].aspects(case):
            inputs = {"prompt": case.prompt, **shown, "round": number}
            inputs |= {} if aspect == SUBJECTS else {"aspect": aspect}
            jobs.append(Job(identity("vlm-judge", [config, ASPECTS[aspect].wording], inputs), inputs))
    return jobs


class Judge:
    """A vision-language model; a call judges a batch. `files` maps digests to pictures."""

    def __init__(self, config: JudgeConfig, files: Mapping[str, Path]):
        self.config, self.files = config, files
        self.model: LanguageModel = load_model(config.vlm, config.device, SETTING, vision=True)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        return read_and_work(jobs, self.make_question, self.ask_all)

    def make_question(self, job: Job) -> Question:
        """Raises OSError when one of its pictures cannot be read."""
        references, picture = job.inputs["references"], job.inputs["picture"]
        aspect, count = ASPECTS[job.inputs.get("aspect", SUBJECTS)], len(references)
        text = aspect.wording.format(count=count, prompt=job.inputs["prompt"], round=job.inputs["round"])
        shown = tuple(self.shown_image(name) for name in (*references, picture))
        return Question((Message("user", text, shown),), partial(aspect.read, count))

    def shown_image(self, name: str) -> Image.Image:
        """A picture as uno_jax reads it, upright and RGB, and scaled down to the configured side."""
        try:
            image = read_image(self.files[name])
        except ImageError as error:
            raise OSError(str(error)) from None
        image.thumbnail((self.config.side,) * 2, Image.Resampling.LANCZOS)
        return image

    def ask_all(self, jobs: Sequence[Job], questions: Sequence[Question]) -> list[Json | Failed]:
        answers: list[Any] = ask(self.model, questions, self.config.vlm.attempts)
        return [answer if isinstance(answer, Failed) else answer.model_dump() for answer in answers]


def judge_cases(cases: Sequence[Case], manifest: Manifest, config: JudgeConfig) -> list[list[Row]]:
    """Returns the rows of each case, in the order of `round_jobs`; asks for those not in the manifest.

    Raises ToolError.
    """
    files = dict.fromkeys(path for case in cases for path in (case.picture, *case.references))
    digests = {path: file_hash(path) for path in files}
    asked = [round_jobs(case, digests, config) for case in cases]
    manifest.cut_torn_line()
    stored = manifest.read()
    if config.retry_failed:
        ids = {job.id for jobs in asked for job in jobs}
        manifest.drop([id for id, row in stored.items() if id in ids and row.result is None])
        stored = manifest.read()
    todo = {job.id: job for jobs in asked for job in jobs if job.id not in stored}
    for rows in ask_missing(list(todo.values()), {name: path for path, name in digests.items()}, config):
        manifest.append(rows)
        stored |= {row.id: row for row in rows}
    return [[stored[job.id] for job in jobs] for jobs in asked]


def ask_missing(jobs: Sequence[Job], files: Mapping[str, Path], config: JudgeConfig) -> Iterator[list[Row]]:
    """Yields the row of every job, batch by batch. Loads the model only if there is a job."""
    if not jobs:
        return
    worker = Halving(Judge(config, files))
    with tqdm(total=len(jobs), desc="judge", unit="answer", dynamic_ncols=True) as bar:
        for start in range(0, len(jobs), config.batch_size):
            yield (rows := worker(jobs[start : start + config.batch_size]))
            bar.update(len(rows))
