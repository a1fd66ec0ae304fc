"""Jobs -> files that a later run recognises as finished.

Picture j of entry i is written as {i}_{j}.png, as UNO's script names them, with its settings in {i}_{j}.json.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from uno_jax import __version__
from uno_jax.sampling.job_list import Job, Reference
from uno_jax.support.atomic import atomic_write
from uno_jax.support.json_files import read_json
from uno_jax.weights.identity import weights_id
from uno_jax.weights.names import find_lora, find_model

# Recorded but not compared: another release of this program draws the same pictures.
PROVENANCE = ("version",)


class Output(NamedTuple):
    """One picture to make, its file, and the settings written beside it."""

    path: Path
    job: Job
    record: dict[str, Any]


def is_picture(out: Path) -> bool:
    """Whether `out` names a single picture, not a directory of them."""
    return out.suffix.lower() == ".png"


def plan_outputs(
    jobs: list[Job], settings: Any, num_images: int, out: Path, common: dict[str, Any]
) -> list[Output]:
    """Every picture of every job, in `out`: a directory, or a .png file for the only picture. `common` is
    the part that all records share.
    """
    outputs = []
    for index, job in enumerate(jobs):
        for j in range(num_images):
            path = out if is_picture(out) else out / f"{index}_{j}.png"
            own = job._replace(seed=job.seed + j)
            outputs.append(Output(path, own, common | make_record(own, settings)))
    return outputs


def make_record(job: Job, settings: Any) -> dict[str, Any]:
    """The settings of one picture as JSON values: what must be equal for a finished picture to be kept."""
    return {
        "prompt": job.prompt,
        "refs": [reference_record(ref) for ref in job.refs],
        **({} if job.left is None else {"left": reference_record(job.left)}),
        "width": job.width,
        "height": job.height,
        "seed": job.seed,
        "ref_size": job.ref_size,
        **settings.record(job.width, job.height),
    }


def reference_record(ref: Reference) -> dict[str, Any]:
    """A reference as JSON values."""
    return {"path": str(ref.path), "size": list(ref.size), "sha256": ref.sha256}


def is_finished(output: Output) -> bool:
    """Whether the picture exists and was made with the same settings."""
    try:
        recorded = read_json(output.path.with_suffix(".json"))
    except (OSError, ValueError):
        return False
    return output.path.is_file() and _compared(recorded) == _compared(output.record)


def _compared(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    return {name: value for name, value in record.items() if name not in PROVENANCE}


def write_output(output: Output, picture: Image.Image) -> None:
    """Writes the picture, then its settings, which say that the picture is done."""
    record = output.path.with_suffix(".json")
    with atomic_write(record) as written:
        written.write_text(json.dumps(output.record, indent=1) + "\n", encoding="utf-8")
        with atomic_write(output.path) as drawn:
            picture.save(drawn, format="png")
            record.unlink(missing_ok=True)  # the old settings must not stand beside the new picture


def common_record(model: str, lora: str, dtype: str) -> dict[str, str | None]:
    """The part of the record that all pictures share; `model` and `lora` as on the command line."""
    record: dict[str, str | None] = {"version": __version__, "dtype": dtype}
    directory = find_model(model)
    for name, path in (("model", directory), ("lora", find_lora(lora, directory))):
        record[name] = None if path is None else str(path.absolute())
        record[f"{name}_id"] = None if path is None else weights_id(path)
    return record
