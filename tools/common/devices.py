"""Devices of torch, and errors of loading models."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx2

from uno_jax.support.http import limit_hub

from .errors import ToolError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> "torch.device":
    """Returns the named device; for "auto" an accelerator if there is one.

    Raises ToolError.
    """
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ToolError(f"device {name!r} cannot be used here ({reason}); use auto, cpu or cuda") from None


def check_device(name: str) -> None:
    """Raises ToolError for a device that does not exist here, before any work. "auto" and "cpu" always do."""
    if name not in ("auto", "cpu"):
        choose_device(name)


def check_model_named(setting: str, model: str) -> None:
    """Raises ToolError when `setting` is empty."""
    if not model:
        raise ToolError(f"{setting} is empty: give a model's directory, or its name on the hub")


@contextlib.contextmanager
def loading(setting: str, model: str) -> Iterator[None]:
    """Turns errors of loading the model that `setting` names into ToolError."""
    check_model_named(setting, model)
    limit_hub()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RecursionError, httpx2.HTTPError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ToolError(f"{setting} {model!r} cannot be loaded: {reason}") from None
