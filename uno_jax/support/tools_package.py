"""The programs beside this package: tools/ in a checkout, which is installed as uno_jax_tools."""

from importlib.util import find_spec
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2]


def installed_name(place: str) -> str:
    """The name by which a module such as tools.synthesize_data can be run: that of the installed package
    where it lies beside this one, and not where another version is installed. Names of other packages stay.
    """
    if not place.startswith("tools."):
        return place
    spec = find_spec("uno_jax_tools")
    places = spec.submodule_search_locations if spec else None
    beside = any(Path(each).resolve().parent == BESIDE for each in places or ())
    return place.replace("tools.", "uno_jax_tools.", 1) if beside else place
