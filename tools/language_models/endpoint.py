"""A language model behind any endpoint of OpenAI's protocol. The package repeats lost requests."""

import base64
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from uno_jax.support.http import CONNECT, Client, TooLongError
from uno_jax.support.words import counted, one_line

from ..common.errors import ToolError
from ..common.manifest import Failed
from .config import ModelConfig
from .conversation import Conversation, Message

MAX_REPLY = 1 << 24  # bytes
IN_A_ROW = 16  # failed requests in a row after which the endpoint is to blame, and not the requests
RENAMED = {"max_tokens": "max_completion_tokens"}
EXAMPLE = "http://localhost:8000/v1"
RESUME = "Finished rows are kept; the same command continues from here"


class Endpoint:
    """One client, whose threads share its connections."""

    def __init__(self, config: ModelConfig, setting: str):
        try:
            import openai
        except ImportError as error:
            raise ToolError(f"{setting}.backend openai: pip install 'uno_jax[synth]' ({error})") from None
        self.errors = openai
        self.config, self.setting = config, setting
        base_url = config.endpoint or os.environ.get("OPENAI_BASE_URL", "")
        if base_url and not base_url.startswith(("http://", "https://")):
            raise ToolError(f"{setting}.endpoint must be a URL such as {EXAMPLE}, got {base_url}")
        key = os.environ.get("OPENAI_API_KEY", "") or ("none" if base_url else "")
        if not key:
            raise ToolError(
                f"{setting}.endpoint is empty, and neither OPENAI_BASE_URL nor OPENAI_API_KEY is set: pass an"
                f" endpoint such as {EXAMPLE}, or set the key"
            )
        self.client = openai.OpenAI(
            api_key=key,
            base_url=base_url or None,
            timeout=openai.Timeout(config.timeout, connect=min(CONNECT, config.timeout)),
            max_retries=config.retries,
            http_client=Client(config.timeout, MAX_REPLY),
        )
        self.place = f"{config.model} at {self.client.base_url}"
        self.arguments: dict[str, Any] = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        self.silent, self.last_reason = 0, ""
        self.lock = threading.Lock()

    def __call__(self, conversations: Sequence[Conversation]) -> list[str | Failed]:
        with ThreadPoolExecutor(self.config.parallel) as pool:
            return list(pool.map(self.answer, conversations))

    def answer(self, conversation: Conversation) -> str | Failed:
        """Returns the next turn; Failed if this request is to blame.

        Raises ToolError if the endpoint is.
        """
        self.check_silence()  # another thread may have noticed it
        result = self.request(conversation)
        with self.lock:
            if isinstance(result, Failed):
                self.silent, self.last_reason = self.silent + 1, result.reason
            else:
                self.silent = 0
        self.check_silence()
        return result

    def check_silence(self) -> None:
        """Raises ToolError after IN_A_ROW requests without an answer."""
        with self.lock:
            if self.silent >= IN_A_ROW:
                raise self.error(
                    f"did not answer {self.silent} requests in a row; the last: {self.last_reason}"
                )

    def request(self, conversation: Conversation) -> str | Failed:
        errors, sent = self.errors, dict(self.arguments)
        try:
            return self.complete(conversation, sent)
        except errors.APITimeoutError as error:
            if type(error.__cause__).__name__ == "ConnectTimeout":
                raise self.error(f"cannot be reached within {CONNECT:.0f} s") from None
            tries = counted(self.config.retries + 1, "time")
            return Failed(f"no answer within {self.config.timeout:g} s, {tries}")
        except errors.APIConnectionError as error:
            if isinstance(error.__cause__, TooLongError):
                return Failed(f"the endpoint's reply is too long: {error.__cause__}")
            raise self.error(f"cannot be reached: {error.__cause__ or error}") from None
        except (errors.AuthenticationError, errors.PermissionDeniedError) as error:
            raise self.error(f"rejects the key (OPENAI_API_KEY): {error}") from None
        except errors.NotFoundError as error:
            raise self.error(f"was not found: {error}. Check {self.setting}.endpoint and .model") from None
        except errors.RateLimitError as error:
            raise self.error(
                f"accepts no more requests: {error}. Lower {self.setting}.parallel or wait"
            ) from None
        except errors.APIError as error:
            if self.leave_out(error, sent):
                return self.request(conversation)
            return Failed(f"the endpoint refused the request: {error}")
        except (ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
            return Failed(f"the endpoint's reply does not follow the protocol: {one_line(error)}")

    def complete(self, conversation: Conversation, arguments: dict[str, Any]) -> str:
        # mypy cannot choose an overload for arguments that are only known at run time.
        create: Callable[..., Any] = self.client.chat.completions.create
        messages = [openai_message(message) for message in conversation]
        completion = create(model=self.config.model, messages=messages, **arguments)
        text = completion.choices[0].message.content or ""
        return text.encode(errors="replace").decode()  # JSON escapes can form lone surrogates

    def leave_out(self, error: Any, sent: dict[str, Any]) -> bool:
        """Whether to repeat the request without an argument that this model does not accept, which is then
        left out of all requests: OpenAI's reasoning models have a fixed temperature and another name for
        max_tokens.
        """
        name = error.param
        if name not in sent or not str(error.code).startswith("unsupported"):
            return False
        with self.lock:
            if name in self.arguments:
                value, instead = self.arguments.pop(name), RENAMED.get(name)
                if instead:
                    self.arguments[instead] = value
                used = instead or "its own value"
                print(f"{self.setting}: {self.place} does not accept {name}; using {used}", flush=True)
        return True

    def error(self, what: str) -> ToolError:
        return ToolError(f"{self.setting}: {self.place} {what}. {RESUME}")


def openai_message(message: Message) -> Any:
    """A message in the protocol's format."""
    if not message.pictures:
        return {"role": message.role, "content": message.text}
    shown = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in message.pictures]
    return {"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]}


def data_url(picture: Image.Image) -> str:
    """A JPEG, a tenth of a PNG's size: a conversation of three rounds sends its pictures three times."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
