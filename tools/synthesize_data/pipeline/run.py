"""A run directory: its settings, the rows that are valid under them, and what is still to be done."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from uno_jax.support.folder_lock import locked
from uno_jax.support.json_files import read_json
from uno_jax.support.words import counted

from ...common.errors import ToolError
from ...common.manifest import Job, Manifest, Row, id_settings, identity
from ..config import SynthConfig
from ..config_files import changed_settings, store_config, stored_config
from .engine import make_rows
from .stage import Stage

MARKS = ("keep", "reject")
LIMITED = ("taxonomy", "scenes", "diptychs")
"""Stages that `limit` cuts; the others follow from their rows."""
AFTER_SECONDS = ("filter-dino", "filter-vlm", "detect", "second-reference", "hashes")


class Run:
    """RUN/config.json (settings), manifest/ (rows) and pictures/, under one set of settings."""

    def __init__(self, folder: Path, config: SynthConfig, stages: Mapping[str, Stage], seconds: bool = True):
        self.folder, self.config, self.stages, self.seconds = folder, config, stages, seconds
        path = folder / "marks.json"
        self.marks: dict[str, str] = read_marks(path) if path.exists() else {}
        """A person's decisions by row id, which override any verdict."""
        self._rows: dict[str, dict[str, Row]] = {}
        self._jobs: dict[str, list[Job]] = {}

    def manifest(self, stage: str) -> Manifest:
        return Manifest(self.folder / "manifest" / f"{stage}.jsonl")

    def before_seconds(self) -> "Run":
        """The run without second subjects. Their pictures come from pairs that passed both filters, and then
        pass through the filters themselves: the stages they come from must not depend on them.
        """
        earlier = Run(self.folder, self.config, self.stages, seconds=False)
        earlier._rows = self._rows
        earlier._jobs = {stage: jobs for stage, jobs in self._jobs.items() if stage not in AFTER_SECONDS}
        return earlier

    def jobs(self, stage: str) -> list[Job]:
        """All jobs of the stage under the present settings, in a fixed order."""
        if stage not in self._jobs:
            step = self.stages[stage]
            settings = id_settings(step.settings(self.config))
            jobs = {identity(stage, settings, inputs): inputs for inputs in step.inputs(self)}
            if self.config.limit and stage in LIMITED:
                # Ids are hashes: the first of them are a random choice, of which a higher limit has all.
                chosen = set(sorted(jobs)[: self.config.limit])
                jobs = {id: inputs for id, inputs in jobs.items() if id in chosen}
            self._jobs[stage] = [Job(id, inputs) for id, inputs in jobs.items()]
        return self._jobs[stage]

    def stored(self, stage: str) -> dict[str, Row]:
        """Every row on disk, by id."""
        if stage not in self._rows:
            self._rows[stage] = self.manifest(stage).read()
        return self._rows[stage]

    def rows(self, stage: str) -> list[Row]:
        """The rows that are valid under the present settings."""
        stored = self.stored(stage)
        return [stored[job.id] for job in self.jobs(stage) if job.id in stored]

    def verdict(self, stage: str, row: Row) -> str:
        """Why a row goes no further; empty when it is kept."""
        if row.result is None:
            return f"failed: {row.failed}"
        mark = self.marks.get(row.id)
        if mark:
            return "" if mark == "keep" else "rejected by hand"
        return self.stages[stage].verdict(self.config, row)

    def kept(self, stage: str) -> list[Row]:
        return [row for row in self.rows(stage) if not self.verdict(stage, row)]

    def run_stage(self, stage: str, retry_failed: bool = False) -> None:
        """Makes the missing rows of a stage, with a progress bar, and prints a summary.

        Raises ToolError when the stages before it kept no row.
        """
        manifest = self.manifest(stage)
        manifest.cut_torn_line()
        if retry_failed:
            manifest.drop([row.id for row in self.stored(stage).values() if row.result is None])
            self.forget()
        jobs, stored = self.jobs(stage), self.stored(stage)
        if not jobs:
            raise ToolError(f"{stage}: nothing to do, because no row was kept before it ({self.folder})")
        missing = [job for job in jobs if job.id not in stored]
        if other := len(stored) - (len(jobs) - len(missing)):
            print(f"{stage}: ignoring {counted(other, 'row')} of other settings or inputs")
        self.make_missing(self.stages[stage], missing)
        self.forget()
        print(f"{stage}: {self.summary(stage)}")

    def make_missing(self, stage: Stage, jobs: list[Job]) -> None:
        if not jobs:
            return
        manifest, kept, failed = self.manifest(stage.name), 0, 0
        with tqdm(total=len(jobs), desc=stage.name, unit="row", dynamic_ncols=True) as bar:
            for number, rows in enumerate(make_rows(stage, self.config, self.folder, jobs)):
                if number == 0:
                    store_config(self.folder, self.config)
                manifest.append(rows)
                failed += sum(row.result is None for row in rows)
                kept += sum(not self.verdict(stage.name, row) for row in rows)
                bar.update(len(rows))
                bar.set_postfix(kept=kept, failed=failed)

    def forget(self) -> None:
        """To be called when rows were added: what follows from them is computed again."""
        self._rows.clear()
        self._jobs.clear()

    def summary(self, stage: str) -> str:
        rows = self.rows(stage)
        failed = sum(row.result is None for row in rows)
        kept = sum(not self.verdict(stage, row) for row in rows)
        rejected = len(rows) - kept - failed
        return f"{counted(len(rows), 'row')}, {kept} kept, {rejected} rejected, {failed} failed"


def read_marks(path: Path) -> dict[str, str]:
    """Marks by row id: "keep", "reject", or "" for none.

    Raises ToolError.
    """
    marks = read_json(path, ToolError)
    if not isinstance(marks, dict) or not all(mark in ("", *MARKS) for mark in marks.values()):
        raise ToolError(f'{path} must be {{"row id": "keep" or "reject"}}')
    return marks


@contextlib.contextmanager
def open_run(folder: Path, config: SynthConfig, stages: Mapping[str, Stage]) -> Iterator[Run]:
    """Opens the run in `folder` and locks it. Its settings are stored with the first row that is made under
    them, and at the end: those that a command refuses are not.

    Raises InUseError when another command is at work there.
    """
    with locked(folder):
        for change in changed_settings(stored_config(folder), config):
            print(f"settings changed: {change}")
        yield Run(folder, config, stages)
        store_config(folder, config)
