"""The other end of `forks`: cases -> how they ended."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.hostile.case import Case

ROOT = Path(__file__).parents[2]
LONG_ENOUGH = 8.0  # seconds of valid work, after which it is asked to stop


class Limits(NamedTuple):
    """What a case may take."""

    seconds: float = 60.0
    memory: int = 4 << 30


class Ended(NamedTuple):
    """How a case ended. `code` is negative for a signal; `stopped` says why it was stopped: "time", "memory",
    "asked" (by SIGINT), or nothing.
    """

    code: int
    stopped: str
    seconds: float
    memory: int
    text: str


class Server:
    """A process that has imported commands and forks for every case."""

    def __init__(self, commands: Sequence[str], env: dict[str, str]):
        self.env = env
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hostile.forks", *commands],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=ROOT,
        )
        if (threads := self._answer()["threads"]) != 1:
            raise RuntimeError(f"the imports of {', '.join(commands)} started {threads - 1} threads")

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"the server ended with code {self.process.wait()}")
        return json.loads(line)

    def run(self, case: Case, folder: Path, limits: Limits) -> Ended:
        """Runs a case in a folder, whose output is written beside it."""
        out, err = (folder.with_name(f"{folder.name}.{name}") for name in ("out", "err"))
        env = {name: value for name, value in {**self.env, **case.env}.items() if value is not None}
        job = {
            "command": case.command,
            "words": list(case.words),
            "folder": str(folder),
            "out": str(out),
            "err": str(err),
            "fresh": bool(case.env or case.stdout),
            "env": env,
            "stdout": case.stdout,
            "works": case.works,
            "memory": limits.memory,
            "seconds": min(limits.seconds, LONG_ENOUGH) if case.works else limits.seconds,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        text = "\n".join(
            path.read_text(encoding="utf-8", errors="replace") for path in (out, err) if path.exists()
        )
        return Ended(**answer, text=text)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def environment(cache: Path) -> dict[str, str]:
    """Of every case: the CPU, no hub, one cache of compiled programs."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
        "OPENBLAS_NUM_THREADS": "1",  # it starts threads when it is imported, which a fork would lose
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_in(server: Server, case: Case, given: Path, folder: Path, limits: Limits) -> Ended:
    """Makes a case's folder, of copies of what it is given, and runs it there."""
    folder.mkdir(parents=True)
    for part in case.given:
        shutil.copytree(given / part, folder, symlinks=True, dirs_exist_ok=True)
    if case.make:
        case.make(folder)
    return server.run(case, folder, limits)
