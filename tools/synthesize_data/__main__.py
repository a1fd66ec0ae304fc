"""The command `uno-synthesize`; `python -m tools.synthesize_data` in a checkout."""

import json
import sys
from collections.abc import Sequence

from uno_jax.support.atomic import check_output_folder

from ..common.command_line import exit_on_tool_errors
from ..common.devices import check_device
from ..common.errors import ToolError
from .command_line import Command, parse_command
from .output.export import export_run
from .output.plan import plan_run
from .output.report import take_marks, write_report
from .pipeline.import_lists import import_list
from .pipeline.run import Run, open_run
from .stages.order import IMPORTED, ORDER, STAGES


def main(argv: Sequence[str] | None = None) -> None:
    with exit_on_tool_errors():
        run_command(parse_command(sys.argv[1:] if argv is None else argv))


def run_command(command: Command) -> None:
    """Raises ToolError."""
    if command.name == "plan":
        return print(json.dumps(plan_run(command.settings), indent=1))
    steps = steps_of(command)
    for name, stage in STAGES.items():
        if name in steps:
            stage.check_settings(command.settings)
    if set(steps) & STAGES.keys() and command.settings.engine == "in-process":
        check_device(command.settings.device)
    check_output_folder("--run", command.run)
    with open_run(command.run, command.settings, STAGES) as run:
        if command.name == "import":
            import_list(run, command.source)
        elif command.name == "marks":
            take_marks(run, command.source)
        elif command.name == "report":
            print(f"wrote {write_report(run)}")
        elif command.name == "run":
            run_all(run, steps, command.retry_failed)
        else:
            run_steps(run, steps, command.retry_failed)
    if command.name not in ("report", "run"):
        print(f"wrote {command.run}")


def steps_of(command: Command) -> tuple[str, ...]:
    """What a command takes. Where a run has imported pairs and none of its own, `run` filters and exports.

    Raises ToolError for an unknown --until.
    """
    if command.name != "run":
        return (command.name,)
    own, imported = (command.run / "manifest" / f"{name}.jsonl" for name in ("taxonomy", "import"))
    order = IMPORTED if imported.exists() and not own.exists() else ORDER
    if command.until and command.until not in order:
        raise ToolError(
            f"--until {command.until}: expected a stage of this run, {', '.join(dict.fromkeys(order))}"
        )
    return order[: order.index(command.until) + 1] if command.until else order


def run_all(run: Run, steps: Sequence[str], retry_failed: bool) -> None:
    """Runs stages and writes the report, also when a stage raises ToolError."""
    if steps[0] == IMPORTED[0]:
        print(f"{run.folder} holds imported pairs: they are filtered and exported")
    try:
        run_steps(run, steps, retry_failed)
    except ToolError:
        print(f"wrote {write_report(run)}")
        raise
    print(f"wrote {write_report(run)}")
    if run.config.limit:
        print(f"this was a trial: run --run {run.folder} --limit 0 makes all")


def run_steps(run: Run, steps: Sequence[str], retry_failed: bool) -> None:
    """Runs stages and export in order; stops before those for two subjects if no pair shows two."""
    for step in steps:
        if step == "export":
            export_run(run)
            continue
        if len(steps) > 1 and step in ("detect", "second-reference") and not run.jobs(step):
            print(f"{step}: no kept pair shows a second subject, so the run ends here")
            return
        run.run_stage(step, retry_failed)


if __name__ == "__main__":
    main()
