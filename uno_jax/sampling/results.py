"""Jobs -> files that a later run recognises as finished.

Picture j of entry i is written as {i}_{j}.png, as UNO's script names them, with its settings in {i}_{j}.json.
Pictures of a prompt without --out are numbered in NUMBERED. Nothing that is there is replaced unasked.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from uno_jax import __version__
from uno_jax.sampling.generate import THOUGHT
from uno_jax.sampling.job_list import Job, Reference
from uno_jax.support.atomic import atomic_write, followed, made_parents, refuse_device
from uno_jax.support.json_files import read_json
from uno_jax.weights.identity import weights_id
from uno_jax.weights.loras import Names, find_loras
from uno_jax.weights.names import find_model

NUMBERED = Path("out")
SHOWN = 3  # pictures that an error names
# Recorded but not compared: what may change the last bits of a picture, and is needed to draw it again.
PROVENANCE = ("version", "device", "batch")
SETTINGS = "uno_jax"  # key of the settings in a picture's file


class Output(NamedTuple):
    """One picture to make, its file (None: the next free number), how it is sampled, and the part of its
    record that all pictures share.
    """

    path: Path | None
    job: Job
    settings: Any
    common: dict[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """The settings written beside the picture; made when asked for, since those of a long list would not
        fit in memory.
        """
        return self.common | make_record(self.job, self.settings)


def is_picture(out: Path) -> bool:
    """Whether `out` names a single picture, not a directory of them."""
    return out.suffix.lower() == ".png"


def plan_outputs(
    jobs: list[Job], settings: Any, num_images: int, out: Path | None, common: dict[str, Any]
) -> list[Output]:
    """Every picture of every job, in `out`: a directory, or a .png file for the only picture; None numbers
    them. `common` is the part that all records share.
    """
    outputs = []
    for index, job in enumerate(jobs):
        for j in range(num_images):
            path = out if out is None or is_picture(out) else out / f"{index}_{j}.png"
            own = job._replace(seed=job.seed + j) if j else job
            outputs.append(Output(path, own, settings, common))
    return outputs


def make_record(job: Job, settings: Any) -> dict[str, Any]:
    """The settings of one picture as JSON values: what must be equal for a finished picture to be kept."""
    return {
        "prompt": job.prompt,
        "refs": [reference_record(ref) for ref in job.refs],
        **({} if job.negative is None else {"negative": job.negative}),
        **{name: reference_record(part) for name, part in given_parts(job).items()},
        **({} if job.start is None else {"strength": settings.strength}),
        **({"turns": list(job.turns)} if job.turns else {}),
        "width": job.width,
        "height": job.height,
        "seed": job.seed,
        "ref_size": job.ref_size,
        **settings.record(job.width, job.height),
    }


def given_parts(job: Job) -> dict[str, Reference]:
    """The pictures beside its references that a job has."""
    parts = {"left": job.left, "start": job.start, "mask": job.mask}
    return {name: part for name, part in parts.items() if part is not None}


def reference_record(ref: Reference) -> dict[str, Any]:
    """A reference as JSON values."""
    return {"path": str(ref.path), "size": list(ref.size), "sha256": ref.sha256}


def is_finished(output: Output) -> bool:
    """Whether the picture exists and was made with the same settings."""
    if output.path is None or not output.path.is_file():
        return False
    try:
        recorded = read_json(output.path.with_suffix(".json"))
    except (OSError, ValueError):
        return False
    return bool(_compared(recorded) == _compared(output.record))


def digest_outputs(outputs: Sequence[Output]) -> str:
    """An ID of the pictures and their settings, which but for the jobs are those of the first."""
    digest = hashlib.sha256(json.dumps(_compared(outputs[0].record), sort_keys=True).encode())
    for output in outputs:
        digest.update(repr((output.path, output.job)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def refuse_devices(outputs: Sequence[Output]) -> None:
    """Raises OSError naming a device or a pipe in the place of a picture or its settings."""
    for path in (output.path for output in outputs if output.path):
        refuse_device(path)
        refuse_device(path.with_suffix(".json"))


def refuse_replacing(outputs: Sequence[Output]) -> None:
    """Raises FileExistsError naming pictures that exist and were made with other settings."""
    paths = [output.path for output in outputs if output.path and output.path.exists()]
    kept = {output.path for output in outputs if is_finished(output) or _is_torn(output)}
    if others := [str(path) for path in paths if path not in kept]:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise FileExistsError(
            f"pictures of other settings would be replaced: {', '.join(others[:SHOWN])}{more}; "
            "choose another --out, or pass --overwrite"
        )


def _is_torn(output: Output) -> bool:
    """Whether a picture's settings are there but cannot be read, as what ended in the middle leaves them."""
    settings = output.path.with_suffix(".json") if output.path else None
    try:
        return settings is not None and settings.is_file() and read_json(settings) is None
    except (OSError, ValueError):
        return True


def _compared(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    return {name: value for name, value in record.items() if name not in (*PROVENANCE, THOUGHT)}


def write_output(
    output: Output, picture: Image.Image, drawn: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """Writes the settings, then the picture, whose file says that it is done and holds them too; returns that
    file. `drawn` is recorded of how it was drawn.
    """
    with made_parents(output.path or NUMBERED / "picture"):
        path = output.path or claim_number(NUMBERED)
        record = path.with_suffix(".json")
        followed(path).unlink(missing_ok=True)  # the new settings must not stand beside an old picture
        own = {THOUGHT: picture.info[THOUGHT]} if THOUGHT in picture.info else {}
        text = json.dumps(output.record | dict(drawn) | own, indent=1)
        kept = PngInfo()
        kept.add_itxt(SETTINGS, text)
        try:
            with atomic_write(record) as written:
                written.write_text(text + "\n", encoding="utf-8")
            with atomic_write(path) as file:
                picture.save(file, format="png", pnginfo=kept)
        except BaseException:
            followed(record).unlink(missing_ok=True)
            raise
        return path


def claim_number(folder: Path) -> Path:
    """The next numbered picture of a folder. Its settings' file is created here, so that programs which draw
    at the same time never get the same number.
    """
    number = max((int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()), default=-1) + 1
    while True:
        path = folder / f"{number:05}.png"
        try:
            path.with_suffix(".json").touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1


def common_record(model: str, lora: Names, dtype: str, base: str) -> dict[str, Any]:
    """The part of the record that all pictures share; `model` and `lora` as on the command line. A `base` is
    recorded if there is one. A single LoRA of strength 1 is `lora` and `lora_id`, others are a list `loras`.
    """
    directory = find_model(model)
    record: dict[str, Any] = {"version": __version__, "dtype": dtype}
    record |= {"base": base} if base else {}
    record |= {"model": str(directory.absolute()), "model_id": weights_id(directory)}
    loras = [
        {"path": str(each.path.absolute()), "id": weights_id(each.path), "strength": each.strength}
        for each in find_loras(lora, directory)
    ]
    if not loras:
        return record | {"lora": None, "lora_id": None}
    if [each["strength"] for each in loras] == [1]:
        return record | {"lora": loras[0]["path"], "lora_id": loras[0]["id"]}
    return record | {"loras": loras}


def device_name() -> str:
    """The devices that this program draws on, as far as the last bits of a picture depend on them."""
    devices = jax.local_devices()
    return str(devices[0].device_kind) + (f" x {len(devices)}" if len(devices) > 1 else "")
