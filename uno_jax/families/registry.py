"""Every family, and which one a model, a preset or a folder of networks belongs to."""

from collections.abc import Collection
from typing import Any

from uno_jax.families.family import Family
from uno_jax.families.uno.family import FAMILY as UNO

FAMILIES: list[Family] = [UNO]
PRESETS: dict[str, Any] = {name: config for family in FAMILIES for name, config in family.presets.items()}


def family_of(config: Any) -> Family:
    """The family of a model config."""
    return next(family for family in FAMILIES if isinstance(config, family.config))


def family_with(networks: Collection[str]) -> Family:
    """The family whose drawing network is among these names; the first family where none is."""
    return next((family for family in FAMILIES if family.core in networks), FAMILIES[0])
