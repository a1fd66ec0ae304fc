"""Every family, and lookups of the family of a model config or of a set of networks."""

from collections.abc import Collection, Iterable
from typing import Any

from uno_jax.families.family import Encoder, Family
from uno_jax.families.scone.family import FAMILY as SCONE
from uno_jax.families.uno.family import FAMILY as UNO

FAMILIES: list[Family] = [UNO, SCONE]
PRESETS: dict[str, Any] = {name: config for family in FAMILIES for name, config in family.presets.items()}


def all_encoders() -> dict[str, Encoder]:
    """The encoders of every family, by network."""
    trainers = [family.trainer for family in FAMILIES if family.trainer]
    return {kind: encoder for trainer in trainers for kind, encoder in trainer.encoders.items()}


def picture_encoders(kinds: Iterable[str]) -> list[str]:
    """Those of some encoders that encode pictures, not prompts."""
    known = all_encoders()
    return [kind for kind in kinds if not known[kind].text]


def family_of(config: Any) -> Family:
    """The family that a model config belongs to."""
    return next(family for family in FAMILIES if isinstance(config, family.config))


def family_drawn_by(kind: str) -> Family | None:
    """The family whose core network is of this kind."""
    return next((family for family in FAMILIES if family.core == kind), None)


def family_with(networks: Collection[str]) -> Family:
    """The family whose core network is among these names, or the first family if none is."""
    return next((family for family in FAMILIES if family.core in networks), FAMILIES[0])
