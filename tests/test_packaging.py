"""setup.cfg lists every package and every data file, so that an installed copy is whole."""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED_AS = {"uno_jax": "uno_jax", "tools": "uno_jax_tools", "configs": "uno_jax_configs"}


def setup_cfg() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_every_package_is_listed():
    listed = set(setup_cfg()["options"]["packages"].split())
    present = {
        ".".join((name, *init.parent.relative_to(ROOT / folder).parts))
        for folder, name in INSTALLED_AS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert present == listed


def test_every_data_file_is_listed():
    patterns = setup_cfg()["options.package_data"]
    covered = {
        path
        for package in patterns
        for pattern in patterns[package].split()
        for path in (ROOT / package.replace("uno_jax_tools", "tools").replace(".", "/")).glob(pattern)
        if path.is_file()
    }
    present = {
        path
        for folder in ("uno_jax", "tools")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert present == covered
