"""Every family, and lookups of the family of a model config or of a set of networks."""

from collections.abc import Collection
from typing import Any

from uno_jax.families.family import Family
from uno_jax.families.uno.family import FAMILY as UNO

FAMILIES: list[Family] = [UNO]
PRESETS: dict[str, Any] = {name: config for family in FAMILIES for name, config in family.presets.items()}


def family_of(config: Any) -> Family:
    """The family that a model config belongs to."""
    return next(family for family in FAMILIES if isinstance(config, family.config))


def family_with(networks: Collection[str]) -> Family:
    """The family whose core network is among these names, or the first family if none is."""
    return next((family for family in FAMILIES if family.core in networks), FAMILIES[0])
