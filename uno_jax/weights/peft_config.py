"""PEFT's description of a LoRA, which says its layers' scales: adapter_config.json, or a file's metadata."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import check_fields, parse_json, read_object

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
IN_FOLDERS = (ADAPTER, "pytorch_lora_weights.safetensors")  # a LoRA's file as PEFT and diffusers name it
METADATA = "lora_adapter_metadata"  # diffusers' training scripts record it in the file
LARGEST = 1e30  # far above any alpha, and still finite in float32
# Initialisations that change the base's weights too: the factors alone are not the update.
CHANGES_BASE = ("pissa", "olora", "loftq", "corda")


def read_scale(file: Path, metadata: dict[str, str]) -> Callable[[str, int], float] | None:
    """The scale of a layer of some rank, by the layer's name; None without a description.

    Raises FileNotFoundError, or CheckpointError for one that is damaged or that asks for more than LoRA.
    """
    if METADATA in metadata:
        where = f"{file}: its metadata {METADATA}"
        record = check_fields(
            parse_json(metadata[METADATA], where, CheckpointError), {}, where, CheckpointError
        )
        about = {name.removeprefix("transformer."): value for name, value in record.items()}
    elif file.name == ADAPTER:
        where = str(file.parent / CONFIG)
        if not (file.parent / CONFIG).is_file():
            raise FileNotFoundError(f"no file {where}, which gives the scale of {ADAPTER}: copy it there too")
        about = read_object(where, {}, CheckpointError)
    else:
        return None
    _refuse_more(about, where)
    alpha, rank = _number(about, "lora_alpha", where), _number(about, "r", where)
    alphas, ranks = (_pattern(about, name, where) for name in ("alpha_pattern", "rank_pattern"))
    root = bool(about.get("use_rslora"))

    def scale(layer: str, found: int) -> float:
        wanted, over = _of_layer(ranks, layer, rank), _of_layer(alphas, layer, alpha)
        if wanted not in (None, found):
            raise CheckpointError(f"{where} says rank {wanted} for {layer}, which has rank {found}")
        return 1.0 if over is None else over / (math.sqrt(found) if root else found)

    return scale


def _refuse_more(about: dict[str, Any], where: str) -> None:
    if (kind := about.get("peft_type", "LORA")) != "LORA":
        raise CheckpointError(f"{where} describes a {kind}, which is not supported: expected LORA")
    asked = [name for name in ("use_dora", "lora_bias", "layer_replication", "use_qalora") if about.get(name)]
    start = about.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(CHANGES_BASE):
        asked.append(f"init_lora_weights {start}")
    if asked:
        raise CheckpointError(f"{where} asks for {', '.join(asked)}, which is not supported")


def _number(about: dict[str, Any], name: str, where: str) -> float | None:
    value = about.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < abs(value) < LARGEST:
        raise CheckpointError(f"{where}: {name} is {value!r:.40}, expected a finite number other than 0")
    return value


def _pattern(about: dict[str, Any], name: str, where: str) -> dict[str, float]:
    """Numbers by the (end of the) name of a layer.

    Raises CheckpointError for regular expressions.
    """
    values = about.get(name) or {}
    if not isinstance(values, dict) or not all(re.fullmatch(r"[\w.]+", key) for key in values):
        raise CheckpointError(
            f"{where}: {name} is not supported unless it gives numbers by the layers' names"
        )
    numbers = {key: _number(values, key, f"{where}: {name}") for key in values}
    return {key: number for key, number in numbers.items() if number is not None}


def _of_layer(pattern: dict[str, float], layer: str, default: float | None) -> float | None:
    named = [name for name in pattern if f".{layer}".endswith(f".{name}")]
    return pattern[named[0]] if named else default
