"""What --model and --lora name: a directory, or the small model that comes with the package.

"small" is always the shipped one; a directory of that name is written ./small.
"""

from pathlib import Path

from uno_jax.families.registry import PRESETS

SMALL = "small"
FOLDER = Path(__file__).parents[1] / "small"


def model_dir(name: str | Path) -> Path:
    """Where a model lies, or would lie."""
    return FOLDER if str(name) == SMALL else Path(name)


def find_model(name: str | Path) -> Path:
    """A model's directory. Raises FileNotFoundError saying what to do when there is none."""
    path = model_dir(name)
    if path.is_dir():
        return path
    if path == FOLDER:
        raise FileNotFoundError(
            f"this copy of uno_jax comes without its small model (no {path}): name a directory of converted "
            "networks in its place"
        )
    preset = " (a preset is a list of sizes and holds no weights)" if str(name) in PRESETS else ""
    raise FileNotFoundError(
        f"no model directory {path}{preset}; convert downloaded weights into one, for example "
        f"uno-convert flux --src flux1-dev.safetensors --dst {path}, "
        "and vae, t5 and clip likewise"
    )


def find_lora(name: str | Path, model: Path) -> Path | None:
    """The LoRA at `name`; for "auto" the lora/ in the directory `model`, if it has one; none for "none"."""
    if str(name) == "auto":
        return model / "lora" if (model / "lora").is_dir() else None
    return None if str(name) == "none" else Path(name)
