"""An entry of a published list -> what it asks for. Its form is told by its fields:

- OmniContext (OmniGen2/OmniContext on the Hugging Face hub, arXiv:2506.18871), also SconeEval: {"key",
  "task_type", "instruction", "input_images": paths, or pictures as the hub's Parquet files hold them};
- XVerseBench (bytedance/XVerse, eval/tools/XVerseBench_single.json and _multi.json): {"index", "prompt",
  "modulation": [{"src_inputs": [{"image_path", "caption"}]}]};
- UNO's own: {"prompt", "image_paths"}, optionally with "category" and "key", as this suite writes them.
"""

from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

from uno_jax.data.entries import PAIR_KEYS, DataError, check_keys
from uno_jax.evaluation.dreambench.prompts import prompt_and_references
from uno_jax.support.json_files import shortened
from uno_jax.support.words import counted

ENGLISH = "en"


class Asked(NamedTuple):
    """What an entry asks for; references and subjects are in the same order."""

    prompt: str
    references: tuple[str | bytes, ...]
    """Paths as written, or pictures' files."""
    category: str
    """Its kind or task type, over which scores are averaged."""
    key: str
    subjects: tuple[str, ...] = ()
    """What the references show; empty where the list does not say it."""


def parse_entry(entry: Any, index: int) -> Asked:
    """What an entry, the list's number `index`, asks for.

    Raises DataError with the reason why it cannot be used.
    """
    if not isinstance(entry, dict):
        raise DataError(f"expected an object, got {shortened(entry)}")
    for field, parse in FORMS.items():
        if field in entry:
            return parse(entry, index)
    raise DataError(
        "expected the fields of OmniContext (key, task_type, instruction, input_images), of XVerseBench "
        "(index, prompt, modulation) or of UNO's lists (prompt, image_paths), got "
        f"{shortened(sorted(entry))}"
    )


def _omnicontext(entry: dict[str, Any], index: int) -> Asked:
    check_keys(entry, ("key", "task_type", "instruction", "input_images"))
    given = entry.get("input_images", entry.get("input_image"))
    pictures = given if isinstance(given, list) else [given]
    references = tuple(_picture(each) for each in pictures)
    if not references:
        raise DataError('"input_images" names no reference')
    category, language = _text(entry, "task_type"), entry.get("instruction_language") or ENGLISH
    if language != ENGLISH:  # whose scores are published apart
        category = f"{category} ({language})"
    return Asked(_text(entry, "instruction"), references, category, _name(entry, "key"))


def _picture(given: Any) -> str | bytes:
    match given:
        case str(path) | {"path": str(path), "bytes": None} if path:
            return path
        case {"bytes": bytes(file)} if file:
            return file
    told = (
        given
        if isinstance(given, str | list | None)
        else sorted(given)
        if isinstance(given, dict)
        else str(given)
    )
    raise DataError(
        f'"input_images" must be a list of paths or of pictures with bytes, got {shortened(told)}'
    )


def _xversebench(entry: dict[str, Any], index: int) -> Asked:
    check_keys(entry, ("index", "prompt", "modulation"))
    match entry["modulation"]:
        case [{"src_inputs": [_, *_] as inputs}, *_]:
            sources = [_source(each) for each in inputs]
        case other:
            raise DataError(f'"modulation" must hold "src_inputs", the references, got {shortened(other)}')
    # Its pictures lie in folders human, object and animal, by which its scores differ.
    category = " + ".join(sorted(PurePath(path).parent.name for path, _ in sources)) or "other"
    paths, captions = zip(*sources, strict=True)
    return Asked(_text(entry, "prompt"), paths, category, _name(entry, "index"), captions)


def _source(given: Any) -> tuple[str, str]:
    match given:
        case {"image_path": str(path), "caption": str(caption)} if path:
            return path, caption
    raise DataError(f'"src_inputs" must hold {{"image_path", "caption"}}, got {shortened(given)}')


def _uno(entry: dict[str, Any], index: int) -> Asked:
    prompt, paths = prompt_and_references(entry, PAIR_KEYS | {"category", "key"})
    category = _text(entry, "category") if "category" in entry else counted(len(paths), "reference")
    return Asked(prompt, paths, category, _name(entry, "key") if "key" in entry else str(index))


FORMS: dict[str, Callable[[dict[str, Any], int], Asked]] = {
    "instruction": _omnicontext,
    "modulation": _xversebench,
    "prompt": _uno,
    "image_paths": _uno,
    "img_path1": _uno,
}


def _text(entry: dict[str, Any], name: str) -> str:
    found = entry.get(name)
    if not isinstance(found, str) or not found.strip():
        raise DataError(f'"{name}" must be a text, got {shortened(found)}')
    return found


def _name(entry: dict[str, Any], name: str) -> str:
    """A text or a whole number as a text."""
    found = entry.get(name)
    return str(found) if type(found) is int else _text(entry, name)
