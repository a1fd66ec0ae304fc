"""Questions to a language model, with or without eyes -> answers that are exactly what was asked for.

Two backends: an endpoint of OpenAI's protocol (endpoint.py) and a model of transformers in this process
(local.py). An answer that cannot be read is asked for again, with what was wrong about it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from ..common.manifest import Failed, Json, SynthesisError
from ..synthesize_data.config import ModelConfig
from ..synthesize_data.pipeline.stage import Worker

THOUGHTS_END = "</think>"  # the beginning may be in the prompt
FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL | re.IGNORECASE)
SHOWN = 200  # characters of a bad answer in the reason of a failure
UNUSABLE = "no usable answer"  # how the failure begins when every answer was malformed
REPEATED = 2000  # characters of a bad answer that its author gets to see again
AGAIN = "That answer cannot be used: {error}. Answer once more, with nothing but the JSON that was asked for."


class Message(NamedTuple):
    """One turn of a conversation. Its pictures come before its text."""

    role: Literal["user", "assistant"]
    text: str
    pictures: tuple[Image.Image, ...] = ()


Conversation = tuple[Message, ...]


class LanguageModel(Protocol):
    def __call__(self, conversations: Sequence[Conversation]) -> list[str | Failed]:
        """The next turn of each; Failed where asking again would not help.

        Raises SynthesisError when there will be no more answers.
        """


class Question(NamedTuple):
    """What to say, and how to read what comes back: `read` raises Malformed."""

    conversation: Conversation
    read: Callable[[str], Any]


class Malformed(ValueError):
    """An answer that is not what was asked for."""


class Answer(BaseModel):
    """The form of an answer: JSON with these fields and no others, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


AnswerType = TypeVar("AnswerType", bound=Answer)


def load_model(config: ModelConfig, device: str, setting: str, eyes: bool = False) -> LanguageModel:
    """Raises SynthesisError when the settings name no usable model; `setting` is where they are ("llm")."""
    check(config, setting)
    if config.backend == "openai":
        from .endpoint import Endpoint

        return Endpoint(config, setting)
    from .local import LocalModel

    return LocalModel(config, device, setting, eyes)


def check(config: ModelConfig, setting: str) -> None:
    """Raises SynthesisError for settings with which nothing can be asked."""
    if not config.model:
        raise SynthesisError(
            f"{setting}.model is empty: name the endpoint's model, or a directory or hub name"
            " for transformers"
        )
    for field, least in (
        ("attempts", 1),
        ("parallel", 1),
        ("max_tokens", 1),
        ("temperature", 0),
        ("retries", 0),
    ):
        if getattr(config, field) < least:
            raise SynthesisError(f"{setting}.{field} must be {least} or more, got {getattr(config, field)}")
    if config.timeout <= 0:
        raise SynthesisError(f"{setting}.timeout must be more than 0 seconds, got {config.timeout}")
    if config.backend == "openai":
        from .endpoint import Endpoint

        Endpoint(config, setting)


def ask(model: LanguageModel, questions: Sequence[Question], attempts: int) -> list[Any]:
    """What each question's `read` makes of its answer, or Failed after `attempts` answers without sense."""
    results: list[Any] = [None] * len(questions)
    left = dict(enumerate(question.conversation for question in questions))
    for _ in range(attempts):
        texts = model(list(left.values())) if left else []
        for index, text in zip(list(left), texts, strict=True):
            results[index], error = judged(text, questions[index].read)
            if error is None:
                del left[index]
            else:
                again = Message("assistant", text[:REPEATED]), Message("user", AGAIN.format(error=error))
                left[index] += again
    return results


def asking(config: ModelConfig, device: str, setting: str, question: Callable[[Json], Question]) -> Worker:
    """A worker that asks the model one question about each job's inputs. Raises as `load_model`."""
    model = load_model(config, device, setting)
    return lambda jobs: ask(model, [question(job.inputs) for job in jobs], config.attempts)


def usable(listed: Json | Failed) -> Json:
    """Raises Malformed for what the limits leave nothing of."""
    if isinstance(listed, Failed):
        raise Malformed(listed.reason)
    return listed


def judged(text: str | Failed, read: Callable[[str], Any]) -> tuple[Any, Malformed | None]:
    """A result, and why the answer is worth another try."""
    if isinstance(text, Failed):
        return text, None
    try:
        return read(text), None
    except Malformed as error:
        return Failed(f"{UNUSABLE}: {error}; it begins {text[:SHOWN]!r}"), error


def parse(text: str, answer: type[AnswerType]) -> AnswerType:
    """An answer in JSON, alone or in a fenced block, after a model's thoughts. Raises Malformed."""
    text = text.rpartition(THOUGHTS_END)[2].strip()
    fenced = FENCE.fullmatch(text)
    try:
        return answer.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        hint = " (cut off by max_tokens?)" if "EOF" in problem["msg"] and text else ""
        raise Malformed(f"{where.lstrip('.')} {problem['msg']}{hint}".strip()) from None
