"""Models and LoRAs of the Hugging Face hub by their names: OWNER/NAME and OWNER/NAME:FILE.

Downloads lie in huggingface_hub's cache, which serves without a network too (HF_HOME, HF_ENDPOINT and
HF_HUB_OFFLINE are honoured).
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from uno_jax.families.registry import FAMILIES

NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w./-]+))?")
# What a LoRA's file is called where none is named: UNO's, then diffusers' training scripts'.
LORA_FILES = ("dit_lora.safetensors", "pytorch_lora_weights.safetensors")


def is_hub_name(name: str) -> bool:
    """Whether a path that does not exist may name a repository. One into a folder that exists, and one of a
    .safetensors file, is a local path.
    """
    repo, colon, _ = name.partition(":")
    if name.startswith((".", "/", "~")) or Path(name).exists() or Path(repo).parent.is_dir():
        return False
    return NAME.fullmatch(name) is not None and (bool(colon) or not name.endswith(".safetensors"))


@cache
def hub_model(name: str) -> Path:
    """The folder of a repository's converted model: what uno-convert writes for every network.

    Raises FileNotFoundError for a repository that holds none (before its weights are downloaded), or that
    cannot be had.
    """
    try:
        place = _download(name, ["*/config.json"])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}. uno-convert makes a model's directory of other weights") from None
    for family in FAMILIES:
        if all((place / kind / "config.json").is_file() for kind in family.networks):
            return _download(name, [f"{part}/*" for part in (*family.networks, *family.beside, "lora")])
    networks = ", ".join(f"{kind}/" for kind in FAMILIES[0].networks)
    raise FileNotFoundError(
        f"{name} on the hub is not a converted model ({networks}); convert its weights into one, for example "
        f"uno-convert flux --src {name} --dst weights/{name.split('/')[1]}, and in the same way vae, t5, clip"
    )


@cache
def hub_lora(name: str) -> Path:
    """The file of a LoRA, one of LORA_FILES where the name has no :FILE.

    Raises FileNotFoundError for a repository without it, or that cannot be had.
    """
    parts = NAME.fullmatch(name)
    assert parts is not None  # is_hub_name
    repo, file = parts.groups()
    wanted = [file] if file else LORA_FILES
    place = _download(repo, wanted)
    for each in wanted:
        if (place / each).is_file():
            return place / each
    named = f"check the name after {repo}:" if file else f"name its file as {repo}:FILE"
    raise FileNotFoundError(f"{repo} on the hub holds no {' or '.join(wanted)}: {named}")


def _download(repo: str, patterns: Sequence[str]) -> Path:
    """The folder with a repository's files of these patterns, downloaded where they are not in the cache."""
    from huggingface_hub import errors, snapshot_download

    from uno_jax.support.http import limit_hub

    limit_hub()
    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns)))
    except errors.GatedRepoError:
        raise FileNotFoundError(
            f"{repo} on the hub needs consent: accept its licence there, then run hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{repo} is neither a local path nor a repository on the hub; a private one needs hf auth login"
        ) from None
    except Exception as error:  # a server's answer can be anything, and the library checks little of it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("Got: ")
        raise FileNotFoundError(
            f"{repo} is no local path, not in the hub's local cache, and cannot be downloaded ({reason}): "
            "check the path, or the network"
        ) from None
