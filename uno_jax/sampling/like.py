"""A picture's own settings -> the arguments that draw it again (`uno-sample --like`)."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from uno_jax import __version__
from uno_jax.families.registry import family_of
from uno_jax.sampling.results import SETTINGS, device_name
from uno_jax.sampling.settings import SampleArgs
from uno_jax.support.digests import file_hash
from uno_jax.support.json_files import check_fields, parse_json, read_json
from uno_jax.support.picture_metadata import png_text
from uno_jax.support.regular_file import check_regular_file
from uno_jax.support.settings import from_json
from uno_jax.support.words import printable
from uno_jax.weights.identity import weights_id
from uno_jax.weights.load import read_model_config
from uno_jax.weights.names import FOLDER, SMALL, find_model

PLAIN = ("prompt", "negative", "width", "height", "seed", "ref_size", "dtype")  # equally named as options
FIELDS: dict[str, Any] = {
    **dict.fromkeys(("version", "dtype", "model", "model_id", "prompt"), str),
    **dict.fromkeys(("width", "height", "seed", "ref_size"), int),
    "refs": list[dict[str, Any]],
}
CONVENTION = ("unope", "offset_scale", "reference_cache")
GIVEN = {"left": "left", "start": "start_image", "mask": "mask"}  # pictures: fields of records, of arguments


def read_settings(picture: Path) -> dict[str, Any]:
    """The settings in a picture's file, or for one of an earlier release those in the JSON beside it.

    Raises FileNotFoundError, or ValueError for a picture of another program and damaged settings.
    """
    check_regular_file(picture)
    with picture.open("rb") as file:
        text = png_text(file, SETTINGS)
    beside = picture.with_suffix(".json")
    if text is not None:
        record = parse_json(text, f"{picture}: the settings in it")
    elif picture.suffix.lower() == ".png" and beside.is_file():
        record = read_json(beside)
    else:
        raise ValueError(f"{picture} holds no settings: --like takes a .png that uno-sample wrote")
    record = check_fields(record, FIELDS, f"{picture}: its settings")
    if "turns" in record:
        raise ValueError(f"{picture} was drawn of a list's turns: draw it again from that list, with --jobs")
    return record


def like_args(args: SampleArgs) -> SampleArgs:
    """The arguments of the picture `args.like`, as defaults of those that are given in `args`.

    Raises as `read_settings`, and FileNotFoundError for a model, a LoRA and pictures that are not there.
    """
    assert args.like is not None
    record, name = read_settings(args.like), f"{args.like}: its settings"
    found = _options(args, record, name)
    found |= {GIVEN[key]: path for key, (path, _) in _given(record, name).items()}
    found["ref"] = () if args.ref else tuple((path,) for path, _ in _pictures(record["refs"], name))
    wanted = [path for key, path in found.items() if key in GIVEN.values() and getattr(args, key) is None]
    wanted += [path for paths in found["ref"] for path in paths]
    wanted += [] if args.lora else [Path(each["path"]) for each in _loras(record, name)]
    for path in wanted:
        if not path.exists():  # a missing LoRA's path is not to be taken for a name on the hub
            told = f"{args.like} was drawn with {path}, which is not there: name another as an option"
            raise FileNotFoundError(told)
    return replace(SampleArgs(like=args.like), **found)


def _options(args: SampleArgs, record: dict[str, Any], name: str) -> dict[str, Any]:
    """The recorded options but for pictures; without LoRA and UnoPE where another LoRA is given."""
    model = _model_of(args, record)
    sampler = family_of(read_model_config(model if args.model == SMALL else args.model)).sampler
    own = sampler.options_of(record)
    values = {key: record[key] for key in PLAIN if key in record}
    values |= {key: own[key] for key in (*sampler.options, *CONVENTION) if key in own}
    values |= {"base": record.get("base", ""), "model": model}
    if args.lora:
        values = {key: value for key, value in values.items() if key not in CONVENTION}
    else:
        values["lora"] = [_lora_name(each) for each in _loras(record, name)] or ["none"]
    hints = get_type_hints(SampleArgs) | {"seed": int}
    given = {key: value for key, value in values.items() if value is not None}
    return {key: from_json(hints[key], value, f"{name}: {key}") for key, value in given.items()}


def check_like(args: SampleArgs) -> None:
    """Raises ValueError where what the picture `args.like` was drawn with has changed, unless another was
    given in its place. Says what else may change the last bits. All of it has been read before: a record may
    come from anyone, and a device's hash takes forever.
    """
    assert args.like is not None
    record, name = read_settings(args.like), f"{args.like}: its settings"
    given = [each for key, each in _given(record, name).items() if getattr(args, GIVEN[key]) == each[0]]
    shown = {path for paths in args.ref for path in paths}
    given += [each for each in _pictures(record["refs"], name) if each[0] in shown]
    _check_hashes(args.like, given, file_hash)
    loras, model = _loras(record, name), _model_of(SampleArgs(like=args.like), record)
    weights = [(find_model(model), record["model_id"])] if args.model == model else []
    if args.lora == tuple(map(_lora_name, loras)):
        weights += [(Path(each["path"]), each["id"]) for each in loras]
    _check_hashes(args.like, weights, weights_id)
    now = {"version": __version__, "device": device_name()}
    for key, value in now.items():
        if record.get(key, value) != value:
            told = (
                f"note: {args.like} was drawn with {key} {record[key]}, not {value}: the last bits may differ"
            )
            print(printable(told), file=sys.stderr)


def _check_hashes(like: Path, files: Iterable[tuple[Path, str]], hash_of: Callable[[Path], str]) -> None:
    for path, recorded in files:
        if hash_of(path) != recorded:
            raise ValueError(f"{path} has changed since {like} was drawn with it: name another as an option")


def batch_of(picture: Path) -> tuple[int, int] | None:
    """A picture's place in its batch, and the batch's size, on which its last bits depend; None if unknown.

    Raises ValueError for numbers that cannot be.
    """
    record = read_settings(picture)
    if "batch" not in record:
        return None
    place, size = from_json(tuple[int, int], record["batch"], f"{picture}: batch")
    if not 0 <= place < size <= 16_384:
        raise ValueError(f"{picture}: batch {place} of {size} cannot be")
    return place, size


def _model_of(args: SampleArgs, record: Mapping[str, Any]) -> str:
    """The recorded model, or the shipped one where its files are the same."""
    path: str = record["model"]
    if args.model != SMALL or Path(path).is_dir():
        return path
    if FOLDER.is_dir() and weights_id(FOLDER) == record["model_id"]:
        return SMALL
    raise FileNotFoundError(
        f"{args.like} was drawn with the model {path}, which is not there: name it as --model"
    )


def _loras(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The recorded LoRAs."""
    if "loras" in record:
        found = from_json(list[dict[str, Any]], record["loras"], f"{name}: loras")
    elif record.get("lora") is not None:
        found = [{"path": record["lora"], "id": record.get("lora_id"), "strength": 1.0}]
    else:
        found = []
    loras = [check_fields(each, {"path": str, "id": str, "strength": float}, name) for each in found]
    for each in loras:
        if not Path(each["path"]).exists() and Path(each["path"]) == Path(record["model"]) / "lora":
            each["path"] = str(FOLDER / "lora")  # the shipped model's, from another place
    return loras


def _lora_name(lora: Mapping[str, Any]) -> str:
    path, strength = lora["path"], lora["strength"]
    return str(path) if strength == 1 else f"{path}:{strength!r}"


def _pictures(records: list[dict[str, Any]], name: str) -> list[tuple[Path, str]]:
    """Files of recorded pictures with their SHA-256."""
    read = [check_fields(each, {"path": str, "sha256": str}, name) for each in records]
    return [(Path(each["path"]), each["sha256"]) for each in read]


def _given(record: Mapping[str, Any], name: str) -> dict[str, tuple[Path, str]]:
    """The recorded pictures beside the references."""
    return {key: _pictures([record[key]], name)[0] for key in GIVEN if key in record}
