"""Training pairs from weaker models.

python -m tools.synthesize_data run --run DIR --config FILE    every stage, one after another
python -m tools.synthesize_data STAGE --run DIR                one stage; the settings are the run's own
python -m tools.synthesize_data report --run DIR               a page of what was made, kept and rejected
python -m tools.synthesize_data marks --run DIR --source FILE  what a person marked on that page
python -m tools.synthesize_data import --run DIR --source PATH pairs that others made, to filter them

STAGE is one of taxonomy, subjects, scenes, diptychs, generate, split, filter-dino, filter-vlm, export (pairs
of one subject), detect, second-reference, then the filters and export again (of two). Every other option is a
setting (--split.min-probability 0.7; --help lists them), kept for the commands that follow. The same command
again does what is missing: rows made under the same settings are found again, whatever happened between.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from ..common.manifest import SynthesisError
from .config import SynthConfig, load_config
from .output.export import export
from .output.report import report, take_marks
from .pipeline.import_lists import import_list
from .pipeline.run import Run, opened, stored_config
from .stages.order import ORDER, STAGES

COMMANDS = ("run", *STAGES, "export", "import", "marks", "report")


def main(argv: Sequence[str] | None = None) -> None:
    own, config = parse(argv)
    try:
        commands = ORDER if own.command == "run" else (own.command,)
        for name, stage in STAGES.items():
            if name in commands:
                stage.check(config)
        with opened(own.run, config) as run:
            if own.command == "import":
                import_list(run, own.source)
            if own.command == "marks":
                take_marks(run, own.source)
            try:
                do(run, commands, own.retry_failed)
            except SynthesisError:
                if own.command == "run":
                    print(f"{report(run)}")
                raise
            if own.command in ("run", "report"):
                print(f"{report(run)}")
    except (SynthesisError, OSError) as error:
        sys.exit(told(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(told("interrupted; the same command goes on from here", 130))


def do(run: Run, commands: Sequence[str], retry_failed: bool) -> None:
    """One after another; of several, those for two subjects only where a pair has a second one."""
    for command in commands:
        if command == "export":
            export(run)
        elif command in STAGES:
            if len(commands) > 1 and command in ("detect", "second-reference") and not run.jobs(command):
                print(f"{command}: no kept pair shows a second subject, so that the run ends here")
                return
            run.do(command, retry_failed)


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, SynthConfig]:
    """The command's own arguments, and settings: of --config, else of the run, each with its overrides.

    Exits 2 when they cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.synthesize_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="STAGE")
    parser.add_argument("--run", type=Path, metavar="DIR")
    parser.add_argument("--config", metavar="FILE")
    parser.add_argument("--source", type=Path, metavar="PATH", help="what to import, or a file of marks")
    parser.add_argument("--retry-failed", action="store_true", help="do a stage's failed rows again")
    if not argv and len(sys.argv) == 1 or {"-h", "--help"} & set(sys.argv[1:] if argv is None else argv):
        parser.print_help()
        tyro.cli(SynthConfig, args=["--help"], prog=parser.prog)
    own, overrides = parser.parse_known_args(argv)
    try:
        if own.run is None:
            raise SynthesisError("no run directory: pass --run DIR")
        default = load_config(own.config) if own.config else stored_config(own.run)
        if default is None:
            raise SynthesisError(f"{own.run} holds no run yet: pass --config FILE to begin one")
        return own, tyro.cli(SynthConfig, args=overrides, prog=parser.prog, default=default)
    except SynthesisError as error:
        sys.exit(told(str(error), 2))


def told(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
