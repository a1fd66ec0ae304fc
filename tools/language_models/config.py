"""Settings of a language model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from uno_jax.support.bounds import Bounds, Count

from ..common.manifest import not_in_id


@dataclass(frozen=True)
class ModelConfig:
    """A language model, or a vision-language model."""

    backend: Literal["openai", "transformers"] = "openai"
    """"openai": any endpoint of that protocol. "transformers": a model in this process."""
    model: str = ""
    """Name of the model at the endpoint; for transformers a directory or a name on the hub."""
    endpoint: str = not_in_id("")
    """Base URL, such as http://localhost:8000/v1; empty: the value of OPENAI_BASE_URL. The key is read from
    OPENAI_API_KEY.
    """
    temperature: Annotated[float, Bounds(0, 100)] = 0.7
    """Sampling temperature; 0: the likeliest token."""
    max_tokens: Count = 4096
    """Longest answer."""
    attempts: Annotated[int, Bounds(1, 1_000)] = not_in_id(3)
    """How many answers to ask for until one can be parsed."""
    timeout: Annotated[float, Bounds(0, 1_000_000, above=True)] = not_in_id(120.0)
    """Seconds that one request to an endpoint may take until its answer is complete, however it trickles."""
    retries: Annotated[int, Bounds(0, 1_000)] = not_in_id(4)
    """How often to repeat a request that was lost, rate-limited (429) or failed on the server (5xx)."""
    parallel: Annotated[int, Bounds(1, 1_024)] = not_in_id(8)
    """Requests sent to an endpoint at a time."""
