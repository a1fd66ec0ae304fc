"""Keys of LoRA files: which key is what part of which layer.

A key is wrappers and prefixes, which are taken off in any order, a layer's name, and a suffix: one of the two
factors, down (rank, in) and up (out, rank), or the layer's alpha.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from uno_jax.families.uno.lora_layers import Module, Site
from uno_jax.support.errors import CheckpointError

BLOCK = re.compile(r"((?:single_)?transformer_blocks|double_blocks|single_blocks)[._]\d+[._]")

# Names of torch's wrappers, anywhere in a key, and of what programs put a transformer into, at its beginning.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
OUTER = ("transformer", "diffusion_model", "base_model", "model", "text_encoder", "text_encoder_2")
# Before names with underscores for dots: kohya's (te1 is CLIP, te3 T5), OneTrainer's, LyCORIS' (SimpleTuner).
FLAT = ("lora_unet_", "lora_transformer_", "lycoris_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_te_")
FACTORS = {"lora_A": "lora_B", "lora_down": "lora_up", "lora.down": "lora.up"}
FACTORS |= {"lora_linear_layer.down": "lora_linear_layer.up", "down": "up"}
_NAMED = "|".join(re.escape(name) for pair in FACTORS.items() for name in pair if len(name) > len("down"))
# PEFT puts the adapter's name after lora_A.
FACTOR = re.compile(
    rf"(.+?)\.(?:({_NAMED})(?:\.(?!weight$)([^.]+)(?=\.weight$))?(?:\.weight)?|(down|up)\.weight)"
)
METHODS = {
    "DoRA": r"dora_scale|magnitude_vector",
    "LoKr": r"\.lokr_",
    "LoHa": r"\.hada_",
    "OFT": r"\.b?oft_",
    "LoCon's middle factor": r"\.lora_mid",
}


class Key(NamedTuple):
    """A key of a LoRA: its layer without wrappers and prefixes, and "down", "up" or "alpha"."""

    layer: str
    kind: str
    adapter: str | None = None


def read_key(key: str) -> Key | None:
    """None for a key with another suffix."""
    if key.endswith(".alpha"):
        return Key(_unwrapped(key.removesuffix(".alpha")), "alpha")
    if not (found := FACTOR.fullmatch(key)):
        return None
    layer, named, adapter, plain = found.groups()
    name = named or plain
    return Key(_unwrapped(layer), "down" if name in FACTORS else "up", adapter)


def _unwrapped(name: str) -> str:
    names = (part for part in name.split(".") if part not in WRAPPERS)
    inner = ".".join(itertools.dropwhile(lambda part: part in OUTER, names))
    return next((inner.removeprefix(flat) for flat in FLAT if inner.startswith(flat)), inner)


def detect(keys: Iterable[str]) -> str:
    """The naming of a set of keys: uno, diffusers, bfl, or kohya (underscores for dots).

    Raises CheckpointError if it is not one of the known ones.
    """
    keys = sorted(keys)
    layers = [found.layer for key in keys if (found := read_key(key)) and BLOCK.search(found.layer)]
    if not layers:
        raise CheckpointError(
            "not a LoRA in UNO's, diffusers', BFL's or kohya's naming: its keys are like "
            f"{', '.join(keys[:3]) or 'none: it holds no tensors'}"
        )
    if "." not in layers[0]:
        return "kohya"
    if ".processor." in layers[0]:
        return "uno"
    return "diffusers" if "transformer_blocks" in layers[0] else "bfl"


class Found(NamedTuple):
    """The keys of each module by their kind, and the layers of keys that are of none."""

    modules: dict[Module, dict[str, str]]
    strange: dict[str, str]


def read_keys(keys: Iterable[str], known: Mapping[str, Module]) -> Found:
    """The keys of the modules in `known` (`lora_layers.modules_of`), in its order.

    Raises CheckpointError for another method than LoRA, for a prefix or suffix that is not known, for two
    keys of one factor, and for half a pair.
    """
    keys = list(keys)
    _refuse_other_methods(keys)
    read = {key: found for key in keys if (found := read_key(key))}
    _refuse_suffixes(keys, read.keys(), known)
    if len(adapters := sorted({found.adapter for found in read.values() if found.adapter})) > 1:
        raise CheckpointError(f"it holds several adapters ({', '.join(adapters)}): save one of them alone")
    strange = {key: found.layer for key, found in read.items() if found.layer not in known}
    _refuse_prefixes(strange)
    modules: dict[Module, dict[str, str]] = {}
    for key, found in read.items():
        if key in strange:
            continue
        kinds = modules.setdefault(known[found.layer], {})
        if found.kind in kinds:
            raise CheckpointError(f"{kinds[found.kind]} and {key} are the same part of one layer")
        kinds[found.kind] = key
    for kinds in modules.values():
        _refuse_half(kinds)
    _refuse_overlaps(modules)
    order = {module: place for place, module in enumerate(known.values())}
    return Found(dict(sorted(modules.items(), key=lambda item: order[item[0]])), strange)


def _refuse_other_methods(keys: Iterable[str]) -> None:
    for method, mark in METHODS.items():
        if theirs := [key for key in keys if re.search(mark, key)]:
            raise CheckpointError(
                f"it is not a plain LoRA but one with {method} ({theirs[0]}), which is not supported"
            )


def _refuse_suffixes(keys: list[str], read: Iterable[str], known: Iterable[str]) -> None:
    """Raises CheckpointError for keys that end in none of the known suffixes."""
    strange = sorted(set(keys) - set(read))
    for key in strange:
        inner = _unwrapped(key)
        layer = max((name for name in known if inner.startswith(f"{name}.")), key=len, default="")
        suffix = inner.removeprefix(f"{layer}.") if layer else ".".join(inner.split(".")[-2:])
        if read or (layer and suffix not in ("weight", "bias")):
            raise CheckpointError(
                f"the suffix {suffix} of its key {key} is not known; those of a LoRA are "
                f"{', '.join(f'{down} and {up}' for down, up in FACTORS.items())} (with .weight), and alpha"
            )
    detect(keys)


def _refuse_prefixes(layers: Mapping[str, str]) -> None:
    """Raises CheckpointError for a block's layer that something unknown stands before."""
    for key, layer in layers.items():
        if (found := BLOCK.search(layer)) and found.start():
            raise CheckpointError(
                f"the prefix {layer[: found.start()]} of its key {key} is not known; known are "
                f"{', '.join(f'{name}.' for name in (*OUTER, *WRAPPERS))}, {', '.join(FLAT)} and none"
            )


def _refuse_overlaps(modules: Mapping[Module, Mapping[str, str]]) -> None:
    """Raises CheckpointError where one kernel comes as a whole and in parts."""
    first: dict[tuple[Site, int], Module] = {}
    for module in modules:
        other = first.setdefault((module.site, module.block), module)
        if (other.parts, other.whole) != (module.parts, module.whole):
            raise CheckpointError(
                f"{modules[other]['down']} and {modules[module]['down']} are of one layer, under two names"
            )


def _refuse_half(kinds: Mapping[str, str]) -> None:
    if {"down", "up"} <= kinds.keys():
        return
    key = next(kinds[kind] for kind in ("down", "up", "alpha") if kind in kinds)
    found = FACTOR.fullmatch(key)
    if found is None:
        raise CheckpointError(f"{key} is the alpha of a layer whose factors are missing")
    name = found[2] or found[4]
    down = name if name in FACTORS else next(first for first, second in FACTORS.items() if second == name)
    raise CheckpointError(f"{found[1]} has only one of {down}.weight and {FACTORS[down]}.weight")
