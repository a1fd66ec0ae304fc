"""The model that the settings name, and workers made of it."""

from collections.abc import Callable

from ..common.errors import ToolError
from ..common.manifest import Json
from ..common.packages import check_packages
from ..common.worker import Worker
from .config import ModelConfig
from .conversation import LanguageModel
from .endpoint import Endpoint
from .local import LocalModel
from .questions import Question, ask

MINIMA = {"attempts": 1, "parallel": 1, "max_tokens": 1, "temperature": 0, "retries": 0}


def load_model(config: ModelConfig, device: str, setting: str, vision: bool = False) -> LanguageModel:
    """Loads a model or opens an endpoint; `setting` is the name of `config` in error messages ("llm").

    Raises ToolError when the settings name no usable model.
    """
    check_model_config(config, setting)
    if config.backend == "openai":
        return Endpoint(config, setting)
    return LocalModel(config, device, setting, vision)


def check_model_config(config: ModelConfig, setting: str) -> None:
    """Raises ToolError for settings with which no question can be asked. Loads nothing."""
    if not config.model:
        raise ToolError(
            f"{setting}.model is empty: give the name of the model at the endpoint, or for transformers a"
            " directory or a name on the hub"
        )
    for field, least in MINIMA.items():
        if getattr(config, field) < least:
            raise ToolError(f"{setting}.{field} must be {least} or more, got {getattr(config, field)}")
    if config.timeout <= 0:
        raise ToolError(f"{setting}.timeout must be more than 0 seconds, got {config.timeout}")
    if config.backend == "openai":
        Endpoint(config, setting)
    else:
        check_packages(f"{setting}.backend {config.backend}", "torch", "transformers")


def question_worker(
    config: ModelConfig, device: str, setting: str, question: Callable[[Json], Question]
) -> Worker:
    """Makes a worker that asks the model one question about each job's inputs.

    Raises as `load_model`.
    """
    model = load_model(config, device, setting)
    return lambda jobs: ask(model, [question(job.inputs) for job in jobs], config.attempts)
