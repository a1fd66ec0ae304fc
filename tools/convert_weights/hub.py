"""Sources on the Hugging Face hub, owner/name or owner/name/file (HF_HOME and HF_ENDPOINT are honoured)."""

import os
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from uno_jax.support.http import limit_hub
from uno_jax.support.words import one_line
from uno_jax.weights.names import SMALL, SMALL_CACHED, find_model, lora_dir
from uno_jax.weights.peft_config import ADAPTER, CONFIG

from .encoders import TORCH_FILE
from .mapping import ConversionError

FP16 = ("*.fp16.*", "*.fp16-*")  # a second copy of most networks
NAME = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?")


def locate(src: str, folder: str = "", torch_too: bool = False) -> Path:
    """Returns a local path unchanged, what is shipped as "small" or "small-cached", or a downloaded file of
    the hub; for a whole repository its `folder`, or else its root. With `torch_too` also the root's torch
    file if it has no safetensors.

    Raises FileNotFoundError, or ConversionError when the hub cannot be reached or denies access.
    """
    if src == SMALL:
        return find_model(src)
    if src == SMALL_CACHED:
        return lora_dir(src)
    path = Path(os.path.expanduser(src))  # pathlib's raises for a user that is not there
    local = src.startswith((".", "/", "~")) or (
        src.count("/") < 2 and path.suffix in (".safetensors", ".json")
    )
    if path.exists() or local or not NAME.fullmatch(src):
        return path
    if src.count("/") > 1 and path.parent.is_dir():
        held = ", ".join(sorted(each.name for each in path.parent.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(f"no file {path}: the folder {path.parent} holds {held}")
    owner, name, *rest = src.split("/", 2)
    return _download(f"{owner}/{name}", rest[0] if rest else "", folder, torch_too)


def _download(repo: str, file: str, folder: str, torch_too: bool) -> Path:
    """Downloads a file of a repository, or what one network needs of it.

    Raises as `locate`.
    """
    src = f"{repo}/{file}" if file else repo
    limit_hub()
    try:
        if file.rpartition("/")[2] == ADAPTER:  # its scale is in the file beside it
            huggingface_hub.hf_hub_download(repo, file.removesuffix(ADAPTER) + CONFIG)
        if file:
            return Path(huggingface_hub.hf_hub_download(repo, file))
        place = _download_folder(repo, folder)
        if torch_too and not any(place.glob("*.safetensors")):
            huggingface_hub.hf_hub_download(repo, TORCH_FILE)
        return place
    except GatedRepoError:
        raise ConversionError(
            f"{repo} needs consent: accept its licence on the hub, then run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(f"{src} is neither a local path nor a repository on the hub") from None
    except LocalEntryNotFoundError as error:
        raise ConversionError(
            f"the hub cannot be reached, and {src} is not in its cache: {one_line(error)}"
        ) from None
    except EntryNotFoundError:
        raise FileNotFoundError(f"the repository {repo} on the hub has no file {file}") from None
    except Exception as error:  # a server's answer can be anything, and the library checks little of it
        raise ConversionError(f"the hub cannot be reached for {src}: {one_line(error)}") from None


def _download_folder(repo: str, folder: str) -> Path:
    """Downloads only what one network needs: its folder of a pipeline, else the files at the root; fp16 only
    where there is nothing else.
    """
    if folder:
        place = _snapshot(repo, [f"{folder}/*.safetensors", f"{folder}/*.json"], [], folder)
        if place.is_dir():
            return place
    return _snapshot(repo, ["*.safetensors", "*.json", "merges.txt"], ["*/*"])


def _snapshot(repo: str, wanted: list[str], ignored: list[str], folder: str = "") -> Path:
    for left_out in ([*ignored, *FP16], ignored):
        root = huggingface_hub.snapshot_download(repo, allow_patterns=wanted, ignore_patterns=left_out)
        if any((Path(root) / folder).glob("*.safetensors")):
            break
    return Path(root) / folder
