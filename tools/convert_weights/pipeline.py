"""Every network of a diffusers FLUX pipeline to one model directory; tokenizers are part of the package."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from uno_jax.support.folder_lock import locked
from uno_jax.weights.checkpoint import read_config

from . import hub
from .convert import MODELS, Plan, convert, plan
from .mapping import ConversionError
from .source import open_source


def convert_pipeline(src: str, dst: Path, dtype: str = "keep", overwrite: bool = False) -> Iterator[str]:
    """Writes DST/mmdit, vae, t5 and clip, and yields a line for each. Those that an earlier call has written
    are kept unless `overwrite`.

    Raises ConversionError or FileNotFoundError before anything is written when one of the folders is not the
    network that it should be, or DST holds another one.
    """
    places = {model.kind: hub.locate(src, model.folder) for model in MODELS}
    for model in MODELS:
        if not places[model.kind].exists():
            raise FileNotFoundError(f"no source {src}: expected a folder, or a name on the hub, owner/name")
        inside = places[model.kind] / model.folder
        places[model.kind] = inside if inside.is_dir() else places[model.kind]
    if missing := [model.folder for model in MODELS if places[model.kind].name != model.folder]:
        raise ConversionError(f"{src} is not a diffusers FLUX pipeline: it lacks {', '.join(missing)}")
    plans = [plan(model, open_source(places[model.kind]), dtype) for model in MODELS]
    with locked(dst):
        yield from write_missing(plans, dst, overwrite)


def write_missing(plans: Sequence[Plan], dst: Path, overwrite: bool) -> Iterator[str]:
    """Writes the networks that are not in DST, or all with `overwrite`, and yields a line for each.

    Raises ConversionError before anything is written when DST holds another network.
    """
    kept = [planned.model.kind for planned in plans if not overwrite and _is_there(planned, dst)]
    for planned in plans:
        if planned.model.kind in kept:
            yield f"kept {dst / planned.model.kind}, which is there"
        else:
            yield f"wrote {convert(planned, dst, overwrite)}: {planned.config}"


def _is_there(planned: Plan, dst: Path) -> bool:
    """Whether the network is written.

    Raises CheckpointError when another one is in its place.
    """
    place = dst / planned.model.kind
    if not place.exists():
        return False
    if (found := read_config(place, planned.model.kind)) != planned.config:
        raise ConversionError(
            f"{place} holds another {planned.model.title} ({found}): choose another destination, or pass "
            "--overwrite"
        )
    return True
