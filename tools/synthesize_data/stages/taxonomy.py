"""Stage 1: categories in groups, from Objects365 or a list of one's own -> a row each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common.manifest import Job, Json, SynthesisError
from ..config import SynthConfig, TaxonomyConfig
from ..pipeline.packaged import DATA, in_uno_jax
from ..pipeline.stage import Stage, Worker
from ..text.phrases import key

if TYPE_CHECKING:
    from ..pipeline.run import Run

OBJECTS365 = DATA / "objects365.json"
TOYBOX = "toybox"


def inputs(run: "Run") -> Iterator[Json]:
    for group, categories in chosen(run.config.taxonomy).items():
        for category in categories:
            yield {"category": category, "group": group}


def chosen(settings: TaxonomyConfig) -> dict[str, list[str]]:
    """The groups asked for, in the list's order. Raises SynthesisError for one that is not in the list."""
    path = Path(settings.path) if settings.path else OBJECTS365
    groups = toybox() if settings.path == TOYBOX else read(path)
    for name in settings.groups:
        if name not in groups:
            raise SynthesisError(f"taxonomy.groups: {path} has no group {name!r}; it has {', '.join(groups)}")
    return {name: groups[name] for name in groups if not settings.groups or name in settings.groups}


def toybox() -> dict[str, list[str]]:
    """The training subjects of uno_jax's toy world, as its manifest groups them."""
    groups: dict[str, list[str]] = {}
    for subject in json.loads(in_uno_jax("toybox", "assets", "manifest.json").read_text(encoding="utf-8")):
        if subject["split"] == "train":
            groups.setdefault(subject["group"], []).append(subject["name"])
    return groups


def read(path: Path) -> dict[str, list[str]]:
    """A list of categories by group. Raises SynthesisError for anything but {"group": ["category", ...]}."""
    form = 'a JSON object {"group": ["category", ...]} is wanted'
    try:
        groups = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=pairs)
    except OSError as error:
        raise SynthesisError(f"taxonomy.path: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SynthesisError(f"taxonomy.path: {path}: {error}; {form}") from None
    if not isinstance(groups, dict) or not groups:
        raise SynthesisError(f"taxonomy.path: {path} holds {brief(groups)}; {form}")
    seen: dict[str, str] = {}
    for group, categories in groups.items():
        if not name(group):
            raise SynthesisError(f"taxonomy.path: {path}: {group!r} is no name of a group")
        if not isinstance(categories, list) or not categories:
            raise SynthesisError(f"taxonomy.path: {path}: group {group!r} holds {brief(categories)}; {form}")
        for category in categories:
            if not name(category):
                raise SynthesisError(f"taxonomy.path: {path}, group {group!r}: {category!r} is no category")
            if key(category) in seen:
                where = f"{seen[key(category)]!r} and {group!r}"
                raise SynthesisError(f"taxonomy.path: {path}: {category!r} is there twice, in {where}")
            seen[key(category)] = group
    return groups


def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, where a name that comes twice would lose the first's value."""
    names = [name for name, _ in items]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the group {twice[0]!r} is there twice")
    return dict(items)


def name(value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() and value.isprintable() and key(value) != ""


def brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def worker(config: SynthConfig, folder: Path) -> Worker:
    def listed(jobs: Sequence[Job]) -> list[Json]:
        return [{} for _ in jobs]

    return listed


STAGE = Stage("taxonomy", inputs, settings=lambda config: None, worker=worker)
