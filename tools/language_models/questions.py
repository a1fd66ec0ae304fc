"""Questions to a language model, and their answers as validated JSON.

An answer that cannot be parsed is asked for again, with what was wrong about it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..common.manifest import Failed, Json
from .conversation import Conversation, LanguageModel, Message

THOUGHTS_END = "</think>"  # the opening tag may be in the prompt
FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL | re.IGNORECASE)
SHOWN = 200  # characters of a bad answer in the reason of a failure
UNUSABLE = "no usable answer"  # beginning of the reason when every answer was malformed
REPEATED = 2000  # characters of a bad answer that are sent back to the model
AGAIN = "That answer cannot be used: {error}. Answer once more, with nothing but the JSON that was asked for."


class Question(NamedTuple):
    """What to say, and the function that parses the answer; it raises Malformed."""

    conversation: Conversation
    read: Callable[[str], Any]


class Malformed(ValueError):
    """The answer does not have the form that was asked for. The message is sent to the model (AGAIN)."""


class Answer(BaseModel):
    """The form of an answer: JSON with these fields and no others, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


AnswerType = TypeVar("AnswerType", bound=Answer)


def ask(model: LanguageModel, questions: Sequence[Question], attempts: int) -> list[Any]:
    """Returns what each question's `read` returns, or Failed after `attempts` malformed answers."""
    results: list[Any] = [None] * len(questions)
    left = dict(enumerate(question.conversation for question in questions))
    for _ in range(attempts):
        texts = model(list(left.values())) if left else []
        for index, text in zip(list(left), texts, strict=True):
            results[index], error = read_answer(text, questions[index].read)
            if error is None:
                del left[index]
            else:
                again = Message("assistant", str(text)[:REPEATED]), Message("user", AGAIN.format(error=error))
                left[index] += again
    return results


def read_answer(text: str | Failed, read: Callable[[str], Any]) -> tuple[Any, Malformed | None]:
    """Returns a result, and the error if it is worth asking again."""
    if isinstance(text, Failed):
        return text, None
    try:
        return read(text), None
    except Malformed as error:
        return Failed(f"{UNUSABLE}: {error}; it begins {text[:SHOWN]!r}"), error


def require_usable(listed: Json | Failed) -> Json:
    """Returns the result of applying limits to an answer.

    Raises Malformed when nothing is left of it.
    """
    if isinstance(listed, Failed):
        raise Malformed(listed.reason)
    return listed


def parse_answer(text: str, answer: type[AnswerType]) -> AnswerType:
    """Parses JSON, alone or in a fenced block, after a model's thoughts.

    Raises Malformed.
    """
    text = text.rpartition(THOUGHTS_END)[2].strip()
    fenced = FENCE.fullmatch(text)
    try:
        return answer.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        hint = " (cut off by max_tokens?)" if "EOF" in problem["msg"] and text else ""
        raise Malformed(f"{where.lstrip('.')} {problem['msg']}{hint}".strip()) from None
