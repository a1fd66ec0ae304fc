"""Arguments of `uno-synthesize`: a subcommand each for the whole run, every stage, and what comes after."""

import argparse
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Fixed, Suppress, arg, subcommand

from uno_jax.support.command_line import parse_args

from ..common.errors import ToolError
from .config import SynthConfig
from .config_files import load_config, stored_config

PROG = "uno-synthesize"


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command and its settings."""

    name: Fixed[Suppress[str]]
    run: Path
    """Directory of the run."""
    config: str = ""
    """Preset (flux or small), or Python file with a get_config(). A run stores its settings: only the command
    that begins it needs this, later ones take --run and the settings to be changed.
    """
    retry_failed: Suppress[bool] = False
    until: Suppress[str] = ""
    source: Suppress[Path | None] = None
    settings: Annotated[SynthConfig, arg(name="")] = SynthConfig()


@dataclass(frozen=True, kw_only=True)
class StageCommand(Command):
    """One command and its settings."""

    retry_failed: bool = False
    """Make failed rows again."""


@dataclass(frozen=True, kw_only=True)
class RunCommand(StageCommand):
    """One command and its settings."""

    until: str = ""
    """Last stage to take, the first time it comes: export ends before second references are drawn, for which
    the stage I model is to be trained. Empty: all.
    """


@dataclass(frozen=True, kw_only=True)
class SourceCommand(Command):
    """One command and its settings."""

    source: Path | None = None
    """JSON list or folder to import, or file of marks."""


COMMANDS: dict[str, tuple[type[Command], str]] = {
    "run": (
        RunCommand,
        "All stages, export and report. The same command again makes only what is missing.",
    ),
    "taxonomy": (StageCommand, "Stage 1: categories in groups."),
    "subjects": (StageCommand, "Stage 2: specific subjects of each category."),
    "scenes": (StageCommand, "Stage 3: scenes for each subject."),
    "diptychs": (StageCommand, "Stage 4: prompts for pictures of two panels."),
    "generate": (StageCommand, "Stage 5: pictures of two panels."),
    "split": (StageCommand, "Stage 6: the two panels, cut at the seam."),
    "filter-dino": (StageCommand, "Stage 7: rejects pairs whose features differ, and copies."),
    "filter-vlm": (StageCommand, "Stage 8: rejects pairs whose subjects differ in their parts."),
    "detect": (StageCommand, "Stage 9: finds the second subject in the target."),
    "second-reference": (StageCommand, "Stage 10: redraws the second subject in another scene."),
    "hashes": (StageCommand, "Perceptual hashes of the targets; export computes them too."),
    "export": (Command, "Lists, shards and a datasheet of the kept pairs."),
    "import": (SourceCommand, "Pairs from other sources (--source), to filter them."),
    "marks": (SourceCommand, "What a person marked on the report (--source), which overrides verdicts."),
    "plan": (
        Command,
        "What the settings ask for at most, as JSON: rows of each stage, pictures and their sizes.",
    ),
    "report": (Command, "A page of what was made, kept and rejected."),
}


def parse_command(argv: Sequence[str]) -> Command:
    """Parses the arguments; settings that they do not name come from --config, or else from the run.

    Raises ToolError, or exits 2, when they cannot be read.
    """
    words = list(argv) or ["--help"]
    return parse_args(command_type(default_settings(words)), PROG, words)


def default_settings(words: Sequence[str]) -> SynthConfig:
    """The settings of --config or of the run.

    These two options are read first, by argparse: they decide the defaults of all others, which tyro must
    know before it parses and shows in --help.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--run", type=Path)
    first.add_argument("--config")
    try:
        known, _ = first.parse_known_args(words)
    except argparse.ArgumentError:  # an option without its value, which tyro will report
        return SynthConfig()
    helping = bool({"-h", "--help"} & set(words))
    if known.config:
        return load_config(known.config)
    if known.run is not None and (stored := stored_config(known.run)):
        return stored
    if helping or words[0] not in COMMANDS:
        return SynthConfig()
    if known.run is None:
        raise ToolError("no run directory: pass --run DIR")
    raise ToolError(
        f"{known.run} holds no run yet: pass --config FILE, or a preset such as small, to begin one"
    )


def command_type(settings: SynthConfig) -> Any:
    """The union of all subcommands, whose settings default to `settings`."""
    return functools.reduce(
        operator.or_,
        (
            Annotated[
                kind,
                subcommand(
                    name,
                    default=kind(name=name, run=tyro.MISSING, settings=settings),
                    description=text,
                ),
            ]
            for name, (kind, text) in COMMANDS.items()
        ),
    )
