"""Two pictures -> how alike the subject's parts are, by a vision-language model in three rounds.

The rounds are the UNO paper's (appendix F): name the subject and its parts; describe how each part differs;
score each part from 0 to 4. One conversation, so that a round knows what was said before.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

from PIL import Image
from pydantic import Field

from ...common.manifest import Failed, Job, Json
from ...language_models.questions import Answer, Malformed, Message, Question, ask, load_model, parse
from ..config import SynthConfig
from ..pipeline import image_files
from ..text import prompts
from ..text.phrases import key

MOST = 12  # parts
Text = Annotated[str, Field(pattern=r"\S")]


class Parts(Answer):
    subject: Text
    parts: list[Text] = Field(min_length=1, max_length=MOST)


class Difference(Answer):
    part: Text
    difference: Text


class Differences(Answer):
    differences: list[Difference]


class Score(Answer):
    part: Text
    score: int = Field(ge=0, le=4)


class Scores(Answer):
    scores: list[Score]


class Talk(NamedTuple):
    """How far a pair has come: the answers that were given, none to three."""

    shown: tuple[Image.Image, Image.Image]
    subject: str
    answers: tuple[Any, ...] = ()


class VlmJudge:
    """A model with eyes; a call judges a batch of pairs, round by round."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder, self.attempts = folder, config.filter_vlm.model.attempts
        self.model = load_model(config.filter_vlm.model, config.device, "filter_vlm.model", eyes=True)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        talks = [self.begun(job) for job in jobs]
        for _ in READERS:
            talks = self.round(talks)
        return [talk if isinstance(talk, Failed) else result(talk) for talk in talks]

    def begun(self, job: Job) -> Talk | Failed:
        try:
            first, second = (image_files.load(self.folder, job.inputs[name]) for name in ("first", "second"))
        except OSError as error:
            return Failed(str(error))
        return Talk((first, second), job.inputs["subject"])

    def round(self, talks: Sequence[Talk | Failed]) -> list[Talk | Failed]:
        """The next answer for every pair that has not failed."""
        going = {index: talk for index, talk in enumerate(talks) if isinstance(talk, Talk)}
        answers = ask(self.model, [question(talk) for talk in going.values()], self.attempts)
        after = list(talks)
        for (index, talk), answer in zip(going.items(), answers, strict=True):
            failed = isinstance(answer, Failed)
            after[index] = answer if failed else talk._replace(answers=(*talk.answers, answer))
        return after


def question(talk: Talk) -> Question:
    """Everything said so far and the next round's prompt."""
    opening = prompts.PARTS.format(subject=talk.subject, count=MOST)
    conversation = [Message("user", opening, talk.shown)]
    for answer, prompt in zip(talk.answers, (prompts.DIFFERENCES, prompts.SCORES), strict=False):
        conversation += [Message("assistant", answer.model_dump_json()), Message("user", prompt.format())]
    return Question(tuple(conversation), partial(READERS[len(talk.answers)], talk))


def read_parts(talk: Talk, text: str) -> Parts:
    """A part that is named twice counts once."""
    answer = parse(text, Parts)
    return Parts(subject=answer.subject, parts=list({key(part): part for part in answer.parts}.values()))


def read_differences(talk: Talk, text: str) -> Differences:
    answer = parse(text, Differences)
    return Differences(differences=in_order(answer.differences, talk.answers[0].parts))


def read_scores(talk: Talk, text: str) -> Scores:
    answer = parse(text, Scores)
    return Scores(scores=in_order(answer.scores, talk.answers[0].parts))


READERS: tuple[Callable[[Talk, str], Any], ...] = (read_parts, read_differences, read_scores)


def in_order(entries: Sequence[Any], parts: Sequence[str]) -> list[Any]:
    """One entry a part, in the parts' order. Raises Malformed when they are not about exactly these parts."""
    by_part = {key(entry.part): entry for entry in entries}
    wanted = {key(part) for part in parts}
    if missing := [part for part in parts if key(part) not in by_part]:
        raise Malformed(f"nothing about {missing[0]!r}, which is one of the parts {list(parts)}")
    if unknown := [entry.part for entry in entries if key(entry.part) not in wanted]:
        raise Malformed(f"{unknown[0]!r} is none of the parts {list(parts)}")
    if len(entries) > len(by_part):
        raise Malformed("a part comes twice")
    return [by_part[key(part)] for part in parts]


def result(talk: Talk) -> Json:
    named, told, scored = talk.answers
    parts = [
        {"part": part, "difference": difference.difference, "score": score.score}
        for part, difference, score in zip(named.parts, told.differences, scored.scores, strict=True)
    ]
    return {"subject": named.subject, "parts": parts, "score": fmean(part["score"] for part in parts)}
