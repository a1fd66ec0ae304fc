"""Which networks a run's cached encodings stand in for, and whether they are what it would encode itself."""

from pathlib import Path
from typing import Any

from uno_jax.data.cached_encodings import read_info
from uno_jax.families.registry import picture_encoders
from uno_jax.networks.registry import NETWORKS
from uno_jax.support.errors import RecipeError
from uno_jax.support.settings import differences, from_dict, to_dict
from uno_jax.training.config import TrainConfig
from uno_jax.weights.checkpoint import read_config
from uno_jax.weights.identity import fingerprint


def describe_network(network: Path, kind: str) -> dict[str, Any]:
    """What `cached_encodings.Info.encoders` records of a network's directory.

    Raises as `checkpoint.read_config`.
    """
    return {"config": to_dict(read_config(network, kind)), "weights": fingerprint(network)}


def encoders_of(config: TrainConfig) -> dict[str, Any]:
    """Configs of the networks that a run's encodings stand in for; none without encodings.

    Raises as `read_info`, and RecipeError where the run itself would encode differently.
    """
    if not config.data.encodings:
        return {}
    info = read_info(Path(config.data.encodings))
    problems = []
    for name in ("resolution", "ref_resolution"):
        made, asked = getattr(info, name), getattr(config.data, name)
        if picture_encoders(info.encoders) and made != asked:
            problems.append(f"they were made at {name} {made}, this run's is {asked}")
    for kind, recorded in info.encoders.items():
        stored = config.weights_dir / kind
        if config.trains(kind):
            problems.append(f"{kind} is trained, and they would not follow it; make them without {kind}")
            continue
        there = config.weights and stored.is_dir()
        if there and (other := differences(recorded, describe_network(stored, kind))):
            problems.append(f"they were made by another {kind} than {stored} ({'; '.join(other)})")
    if problems:
        raise RecipeError(f"the encodings {config.data.encodings} do not fit: {'; '.join(problems)}")
    try:
        return {
            kind: from_dict(NETWORKS[kind].config, made["config"]) for kind, made in info.encoders.items()
        }
    except ValueError as error:
        raise RecipeError(f"{config.data.encodings}/encodings.json: {error}") from None
