"""Where models run, and errors of loading them told as the pipeline's."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .manifest import SynthesisError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> "torch.device":
    """The device of that name; for "auto" an accelerator when there is one. Raises SynthesisError."""
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
        raise SynthesisError(
            f"device {name!r} cannot be used here ({reason}); use auto, cpu or cuda"
        ) from None


def check_named(setting: str, model: str) -> None:
    """Raises SynthesisError when `setting` names no model."""
    if not model:
        raise SynthesisError(f"{setting} is empty: name a model's directory, or its name on the hub")


@contextlib.contextmanager
def loading(setting: str, model: str) -> Iterator[None]:
    """Tells what went wrong in loading the model that `setting` names. Raises SynthesisError."""
    check_named(setting, model)
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SynthesisError(f"{setting} {model!r} cannot be loaded: {reason}") from None
