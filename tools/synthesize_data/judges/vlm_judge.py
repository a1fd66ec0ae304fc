"""Two pictures -> how similar the subject's parts are, by a vision-language model in three rounds.

The rounds are the UNO paper's (appendix F): name the subject and its parts; describe how each part differs;
score each part from 0 to 4. They form one conversation, so that each round sees the answers before it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

from PIL import Image
from pydantic import Field

from ...common.manifest import Failed, Job, Json
from ...language_models.conversation import Message
from ...language_models.load import load_model
from ...language_models.questions import Answer, Malformed, Question, ask, parse_answer
from ..config import SynthConfig
from ..pipeline.image_files import load_image
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
    """The state of a pair: its answers so far, none to three."""

    shown: tuple[Image.Image, Image.Image]
    subject: str
    answers: tuple[Any, ...] = ()


class VlmJudge:
    """A vision-language model; a call judges a batch of pairs, round by round."""

    def __init__(self, config: SynthConfig, folder: Path):
        self.folder, self.attempts = folder, config.filter_vlm.model.attempts
        self.model = load_model(config.filter_vlm.model, config.device, "filter_vlm.model", vision=True)

    def __call__(self, jobs: Sequence[Job]) -> list[Json | Failed]:
        talks = [self.start(job) for job in jobs]
        for _ in READERS:
            talks = self.ask_round(talks)
        return [talk if isinstance(talk, Failed) else judgement(talk) for talk in talks]

    def start(self, job: Job) -> Talk | Failed:
        try:
            first, second = (load_image(self.folder, job.inputs[name]) for name in ("first", "second"))
        except OSError as error:
            return Failed(str(error))
        return Talk((first, second), job.inputs["subject"])

    def ask_round(self, talks: Sequence[Talk | Failed]) -> list[Talk | Failed]:
        """Asks for the next answer of every pair that has not failed."""
        going = {index: talk for index, talk in enumerate(talks) if isinstance(talk, Talk)}
        answers = ask(self.model, [next_question(talk) for talk in going.values()], self.attempts)
        after = list(talks)
        for (index, talk), answer in zip(going.items(), answers, strict=True):
            failed = isinstance(answer, Failed)
            after[index] = answer if failed else talk._replace(answers=(*talk.answers, answer))
        return after


def next_question(talk: Talk) -> Question:
    """The conversation so far and the next round's prompt."""
    opening = prompts.PARTS.format(subject=talk.subject, count=MOST)
    conversation = [Message("user", opening, talk.shown)]
    for answer, prompt in zip(talk.answers, (prompts.DIFFERENCES, prompts.SCORES), strict=False):
        conversation += [Message("assistant", answer.model_dump_json()), Message("user", prompt.format())]
    return Question(tuple(conversation), partial(READERS[len(talk.answers)], talk))


def read_parts(talk: Talk, text: str) -> Parts:
    """Removes parts that are named twice."""
    answer = parse_answer(text, Parts)
    return Parts(subject=answer.subject, parts=list({key(part): part for part in answer.parts}.values()))


def read_differences(talk: Talk, text: str) -> Differences:
    answer = parse_answer(text, Differences)
    return Differences(differences=in_parts_order(answer.differences, talk.answers[0].parts))


def read_scores(talk: Talk, text: str) -> Scores:
    answer = parse_answer(text, Scores)
    return Scores(scores=in_parts_order(answer.scores, talk.answers[0].parts))


READERS: tuple[Callable[[Talk, str], Any], ...] = (read_parts, read_differences, read_scores)


def in_parts_order(entries: Sequence[Any], parts: Sequence[str]) -> list[Any]:
    """Returns one entry per part, in the parts' order.

    Raises Malformed for missing or other parts.
    """
    by_part = {key(entry.part): entry for entry in entries}
    wanted = {key(part) for part in parts}
    if missing := [part for part in parts if key(part) not in by_part]:
        raise Malformed(f"nothing about {missing[0]!r}, which is one of the parts {list(parts)}")
    if unknown := [entry.part for entry in entries if key(entry.part) not in wanted]:
        raise Malformed(f"{unknown[0]!r} is none of the parts {list(parts)}")
    if len(entries) > len(by_part):
        raise Malformed("a part comes twice")
    return [by_part[key(part)] for part in parts]


def judgement(talk: Talk) -> Json:
    named, compared, scored = talk.answers
    parts = [
        {"part": part, "difference": difference.difference, "score": score.score}
        for part, difference, score in zip(named.parts, compared.differences, scored.scores, strict=True)
    ]
    return {"subject": named.subject, "parts": parts, "score": fmean(part["score"] for part in parts)}
