"""Stage 1: categories in groups, from Objects365 or the user's list -> one row per category."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uno_jax.support.json_files import read_json, shortened

from ...common.errors import ToolError
from ...common.manifest import Failed, Job, Json
from ...common.worker import Worker
from ..config import SynthConfig, TaxonomyConfig
from ..pipeline.packaged import DATA, in_uno_jax
from ..pipeline.stage import Rows, Stage, no_settings
from ..text.phrases import key

OBJECTS365 = DATA / "objects365.json"
TOYBOX = "toybox"


def inputs(run: Rows) -> Iterator[Json]:
    for group, categories in choose_groups(run.config.taxonomy).items():
        for category in categories:
            yield {"category": category, "group": group}


def choose_groups(settings: TaxonomyConfig) -> dict[str, list[str]]:
    """Returns the selected groups, in the list's order.

    Raises ToolError for one that is not in the list.
    """
    path = Path(settings.path) if settings.path else OBJECTS365
    groups = toybox_groups() if settings.path == TOYBOX else read_groups(path)
    for name in settings.groups:
        if name not in groups:
            raise ToolError(f"taxonomy.groups: {path} has no group {name!r}; it has {', '.join(groups)}")
    return {name: groups[name] for name in groups if not settings.groups or name in settings.groups}


def toybox_groups() -> dict[str, list[str]]:
    """Returns the training subjects of uno_jax's toy world, grouped as in its manifest."""
    groups: dict[str, list[str]] = {}
    for subject in read_json(in_uno_jax("toybox", "assets", "manifest.json")):
        if subject["split"] == "train":
            groups.setdefault(subject["group"], []).append(subject["name"])
    return groups


def read_groups(path: Path) -> dict[str, list[str]]:
    """Reads categories by group.

    Raises ToolError for anything but {"group": ["category", ...]}.
    """
    form = 'expected a JSON object {"group": ["category", ...]}'
    try:
        groups = read_json(path, ToolError)
    except (OSError, ToolError) as error:
        raise ToolError(f"taxonomy.path: {error}; {form}") from None
    if not isinstance(groups, dict) or not groups:
        raise ToolError(f"taxonomy.path: {path} holds {shortened(groups)}; {form}")
    seen: dict[str, str] = {}
    for group, categories in groups.items():
        if not is_name(group):
            raise ToolError(f"taxonomy.path: {path}: {group!r} is not a valid group name")
        if not isinstance(categories, list) or not categories:
            raise ToolError(f"taxonomy.path: {path}: group {group!r} holds {shortened(categories)}; {form}")
        for category in categories:
            if not is_name(category):
                raise ToolError(
                    f"taxonomy.path: {path}, group {group!r}: {category!r} is not a valid category"
                )
            if key(category) in seen:
                where = f"groups {seen[key(category)]!r} and {group!r}"
                raise ToolError(f"taxonomy.path: {path}: duplicate category {category!r}, in {where}")
            seen[key(category)] = group
    return groups


def is_name(value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() and value.isprintable() and key(value) != ""


def worker(config: SynthConfig, folder: Path) -> Worker:
    return no_results


def no_results(jobs: Sequence[Job]) -> list[Json | Failed]:
    """A category has no more to it than its inputs."""
    return [{} for _ in jobs]


STAGE = Stage("taxonomy", inputs, no_settings, worker)
