"""A run directory: its settings, the rows that count under them, and what is still to be done."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from ...common.manifest import Job, Manifest, Row, SynthesisError, counted, identity
from ..config import SynthConfig, changes, from_json
from ..stages.order import STAGES
from .engine import work
from .stage import Stage

AFTER_SECONDS = ("filter-dino", "filter-vlm", "detect", "second-reference", "hashes")


class Run:
    """RUN/config.json (settings), manifest/ (rows) and pictures/, seen with one set of settings."""

    def __init__(self, folder: Path, config: SynthConfig, seconds: bool = True):
        self.folder, self.config, self.seconds = folder, config, seconds
        path = folder / "marks.json"
        self.marks: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        """By row id: what a person said, over any verdict."""
        self._rows: dict[str, dict[str, Row]] = {}
        self._jobs: dict[str, list[Job]] = {}

    def manifest(self, stage: str) -> Manifest:
        return Manifest(self.folder / "manifest" / f"{stage}.jsonl")

    def before_seconds(self) -> "Run":
        """The run without second subjects. Their pictures come from pairs that passed both filters, and then
        go through the filters themselves: what they follow from must not wait for them.
        """
        earlier = Run(self.folder, self.config, seconds=False)
        earlier._rows = self._rows
        earlier._jobs = {stage: jobs for stage, jobs in self._jobs.items() if stage not in AFTER_SECONDS}
        return earlier

    def jobs(self, stage: str) -> list[Job]:
        """Everything the stage should have a row for, under the present settings, in a fixed order."""
        if stage not in self._jobs:
            step = STAGES[stage]
            settings = counted(step.settings(self.config))
            jobs = {identity(stage, settings, inputs): inputs for inputs in step.inputs(self)}
            self._jobs[stage] = [Job(id, inputs) for id, inputs in jobs.items()]
        return self._jobs[stage]

    def stored(self, stage: str) -> dict[str, Row]:
        """Every row on disk, by id."""
        if stage not in self._rows:
            self._rows[stage] = self.manifest(stage).read()
        return self._rows[stage]

    def rows(self, stage: str) -> list[Row]:
        """The rows that count."""
        stored = self.stored(stage)
        return [stored[job.id] for job in self.jobs(stage) if job.id in stored]

    def verdict(self, stage: str, row: Row) -> str:
        """Why a row goes no further; empty when it does."""
        if row.result is None:
            return f"failed: {row.failed}"
        mark = self.marks.get(row.id)
        if mark:
            return "" if mark == "keep" else "rejected by hand"
        return STAGES[stage].verdict(self.config, row)

    def kept(self, stage: str) -> list[Row]:
        return [row for row in self.rows(stage) if not self.verdict(stage, row)]

    def do(self, stage: str, retry_failed: bool = False) -> None:
        """Works off what a stage lacks, with a progress bar; says which rows no longer count.

        Raises SynthesisError when nothing comes from the stages before it.
        """
        step, manifest = STAGES[stage], self.manifest(stage)
        manifest.mend()
        if retry_failed:
            manifest.drop([row.id for row in self.stored(stage).values() if row.result is None])
            self.forget()
        jobs, stored = self.jobs(stage), self.stored(stage)
        if not jobs:
            raise SynthesisError(f"{stage}: nothing to do, since no row was kept before it ({self.folder})")
        todo = [job for job in jobs if job.id not in stored]
        if other := len(stored) - (len(jobs) - len(todo)):
            print(f"{stage}: {other} rows of other settings or inputs are left aside")
        self.work_off(step, todo)
        self.forget()
        print(f"{stage}: {self.summary(stage)}")

    def work_off(self, step: Stage, todo: list[Job]) -> None:
        if not todo:
            return
        manifest, kept, failed = self.manifest(step.name), 0, 0
        with tqdm(total=len(todo), desc=step.name, unit="row", dynamic_ncols=True) as bar:
            for rows in work(step, self.config, self.folder, todo):
                manifest.append(rows)
                failed += sum(row.result is None for row in rows)
                kept += sum(not self.verdict(step.name, row) for row in rows)
                bar.update(len(rows))
                bar.set_postfix(kept=kept, failed=failed)

    def forget(self) -> None:
        """After rows have come, what follows from them is worked out anew."""
        self._rows.clear()
        self._jobs.clear()

    def summary(self, stage: str) -> str:
        rows = self.rows(stage)
        failed = sum(row.result is None for row in rows)
        kept = sum(not self.verdict(stage, row) for row in rows)
        return f"{len(rows)} rows, {kept} kept, {len(rows) - kept - failed} rejected, {failed} failed"


@contextlib.contextmanager
def opened(folder: Path, config: SynthConfig) -> Iterator[Run]:
    """The run in `folder`, with its settings written down and nobody else writing in it.

    Raises SynthesisError when another command is at work there.
    """
    with locked(folder):
        for change in changes(stored_config(folder), config):
            print(f"settings changed: {change}")
        aside = folder / ".config.json.partial"
        aside.write_text(json.dumps(dataclasses.asdict(config), indent=1, ensure_ascii=False) + "\n")
        os.replace(aside, folder / "config.json")
        yield Run(folder, config)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else writes in `folder`, which is made if need be. Raises SynthesisError when somebody does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SynthesisError(f"{folder}: another command is at work there; wait for it to end") from None
        yield


def stored_config(folder: Path) -> SynthConfig | None:
    """The settings of the last command in `folder`, if there was one. Raises SynthesisError."""
    path = folder / "config.json"
    return from_json(json.loads(path.read_text()), path) if path.exists() else None
