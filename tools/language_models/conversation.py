"""What is said to a language model, and the interface of the models."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from PIL import Image

from ..common.manifest import Failed


class Message(NamedTuple):
    """One turn of a conversation. Its pictures come before its text."""

    role: Literal["user", "assistant"]
    text: str
    pictures: tuple[Image.Image, ...] = ()


Conversation = tuple[Message, ...]


class LanguageModel(Protocol):
    def __call__(self, conversations: Sequence[Conversation]) -> list[str | Failed]:
        """Returns the next turn of each; Failed where asking again would not help.

        Raises ToolError when no more answers can be expected.
        """
