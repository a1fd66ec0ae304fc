"""Steps that are done once: beside the folder of each, a record of its settings and, when it ended, its
result.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.ablation.run import digest
from uno_jax.support.atomic import atomic_write
from uno_jax.support.errors import RecipeError
from uno_jax.support.json_files import read_object
from uno_jax.support.settings import differences

Json = dict[str, Any]


class Step(NamedTuple):
    """One step. Its settings name everything that its result depends on but the steps before it."""

    name: str
    """Its folder in that of the co-evolution, such as round_1/stage1; its record is round_1/stage1.json."""
    settings: Json
    work: Callable[[], Json]
    """Does what is missing of it, and returns what is to be recorded as its result."""
    shares: bool = False
    """Whether it goes on in a folder of an earlier step, in place of one of its own."""


class Finished(NamedTuple):
    """A step's result, and the ID of that, of its settings, and of all steps before it."""

    result: Json
    id: str


def finish(step: Step, after: str, out: Path) -> Finished:
    """Does a step, unless it is recorded as finished; `after` is the ID of the step before it.

    Raises RecipeError for a record of other settings, and for a folder with things in it that no record is
    of.
    """
    path, folder = out / f"{step.name}.json", out / step.name
    settings: Json = json.loads(portable(step.settings | {"earlier steps": after}, out))
    if path.is_file():
        result = recorded_result(path, settings)
        if result is not None:
            print(f"{step.name}: finished", flush=True)
            return Finished(result, digest([settings, result]))
    elif not step.shares and folder.is_dir() and any(folder.iterdir()):
        raise RecipeError(f"{folder} is not empty and there is no {path}: name a new --out, or remove it")
    else:
        write_record(path, settings, None)
    result = json.loads(portable(step.work(), out))
    write_record(path, settings, result)
    return Finished(result, digest([settings, result]))


def recorded_result(path: Path, settings: Json) -> Json | None:
    """The result in a record; None where the step has begun and not ended.

    Raises RecipeError where its settings differ.
    """
    record = read_object(path, {"settings": Json, "result": Json | None}, RecipeError)
    if changes := differences(record["settings"], settings):
        state = "has begun" if record["result"] is None else "is finished"
        raise RecipeError(
            f"{path.with_suffix('')} {state} with other settings ({'; '.join(changes)}): take those again, "
            f"name a new --out, or remove {path.name}, that folder and what follows, to do it anew"
        )
    found: Json | None = record["result"]
    return found


def portable(value: Json, out: Path) -> str:
    """JSON in which paths below `out` are relative to it, so that the folder may be moved."""
    return json.dumps(value).replace(json.dumps(str(out))[1:-1] + "/", "{out}/")


def write_record(path: Path, settings: Json, result: Json | None) -> None:
    with atomic_write(path) as partial:
        text = json.dumps({"settings": settings, "result": result}, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
