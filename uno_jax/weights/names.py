"""The names that --model and --lora accept: a path, a repository on the hub where there is no such path
(`hub`), or what is shipped with the package: the model "small", and its LoRA "small-cached", whose references
are computed once a picture.

Both names always mean what is shipped, small as a LoRA the one in the shipped model; write ./small for a
directory of that name.
"""

from pathlib import Path

from uno_jax.families.registry import PRESETS
from uno_jax.weights.hub import hub_lora, hub_model, is_hub_name

SMALL = "small"
FOLDER = Path(__file__).parents[1] / "small"
SMALL_CACHED = "small-cached"
CACHED_FOLDER = FOLDER.with_name("small_cached")


def model_dir(name: str | Path) -> Path:
    """The directory of a model, whether it exists or not."""
    return FOLDER if str(name) == SMALL else Path(name)


def lora_dir(name: str | Path) -> Path:
    """The directory of a LoRA, whether it exists or not; "small" is the one in the shipped model."""
    shipped = {SMALL: FOLDER / "lora", SMALL_CACHED: CACHED_FOLDER}
    return shipped.get(str(name), Path(name))


def find_model(name: str | Path) -> Path:
    """A model's directory, downloaded from the hub where the name is a repository's.

    Raises FileNotFoundError, saying what to do, if it does not exist.
    """
    return hub_model(str(name)) if is_hub_name(str(name)) else local_model(name)


def local_model(name: str | Path) -> Path:
    """A model's directory on this machine.

    Raises as `find_model`.
    """
    if not str(name):
        raise FileNotFoundError("the model's name is empty: give a directory of converted networks, or small")
    path = model_dir(name)
    if path.is_dir():
        return path
    if path == FOLDER:
        raise FileNotFoundError(
            f"this copy of uno_jax comes without its small model ({path} is missing): name a directory of "
            "converted networks instead"
        )
    preset = " (a preset is a list of sizes and holds no weights)" if str(name) in PRESETS else ""
    raise FileNotFoundError(
        f"no model directory {path}{preset}; convert downloaded weights into one, for example "
        f"uno-convert flux --src flux1-dev.safetensors --dst {path}, and in the same way vae, t5 and clip"
    )


def find_lora(name: str | Path, model: Path) -> Path | None:
    """The path of a LoRA: "auto" is the lora/ in the directory `model`, if it has one, and "none" gives None.

    Raises FileNotFoundError for a repository of the hub without it.
    """
    if str(name) == "auto":
        return model / "lora" if (model / "lora").is_dir() else None
    if not str(name):
        raise FileNotFoundError("the name of the LoRA is empty: give auto, none, or where it lies")
    if str(name) == "none":
        return None
    return hub_lora(str(name)) if is_hub_name(str(name)) else lora_dir(name)
