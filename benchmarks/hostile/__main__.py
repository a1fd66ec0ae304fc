"""Runs the cases and prints a table by command; exits 1 where any did not end as expected."""

import argparse
import collections
import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.hostile import kinds
from benchmarks.hostile.case import BASES, Base, Case
from benchmarks.hostile.given import make_given
from benchmarks.hostile.numbers import greatest
from benchmarks.hostile.process import Ended, Limits, Server, environment, run_in
from benchmarks.hostile.verdicts import EXPECTED, VERDICTS, verdict
from benchmarks.measure import table

LONG = Limits(seconds=600, memory=8 << 30)  # of what makes the parts that cases are given
HEAD = ("command", "cases", *VERDICTS, "seconds")


class Result(NamedTuple):
    """One case and how it ended."""

    kind: str
    case: Case
    verdict: str
    why: str
    ended: Ended


class Bench:
    """The servers, the folder of what cases are given, and the folder that they run in."""

    def __init__(self, folder: Path, limits: Limits, cache: Path | None = None):
        self.folder, self.limits = folder, limits
        self.given = (cache or folder) / "given"
        self.env = environment((cache or folder) / "compiled")
        self.servers: dict[str, Server] = {}
        self.number = 0

    def server(self, command: str) -> Server:
        """The process for a command: one for those of the package, one for the tools."""
        group = command.partition(".")[0]
        if group not in self.servers:
            commands = sorted({base.command for base in BASES.values() if base.command.startswith(group)})
            self.servers[group] = Server(commands if command in commands else [command], self.env)
        return self.servers[group]

    def help_of(self, base: Base) -> str:
        """What --help prints."""
        words = (*base.subcommand, "--help")
        if base.command == "tools.synthesize_data":
            words = (*base.words[:1], "--run", "none", "--config", "small", "--help")
        ended = self.run(Case(base.command, "help", words), LONG)
        if ended.code:
            raise RuntimeError(f"{base.command} {' '.join(words)} ended with {ended.code}: {ended.text}")
        return ended.text

    def prepare(self, command: str, *words: str, cwd: Path) -> None:
        """Runs a command that makes a part of what cases are given."""
        self.number += 1
        place = self.folder / "prepare" / str(self.number)
        place.mkdir(parents=True)
        case = Case(command, "", words, make=lambda folder: folder.rmdir() or folder.symlink_to(cwd))
        ended = self.run(case, LONG)
        if ended.code:
            raise RuntimeError(f"{command} {' '.join(words)} ended with {ended.code}: {ended.text}")

    def run(self, case: Case, limits: Limits | None = None) -> Ended:
        """Runs a case in a new folder, `place` afterwards."""
        make_given(self.given, case.given, self.prepare)
        self.number += 1
        self.place = self.folder / "cases" / f"{self.number:05}"
        return run_in(self.server(case.command), case, self.given, self.place, limits or self.limits)

    def judge(self, kind: str, case: Case, keep: Path | None = None) -> Result:
        """Runs a case, says how it ended, and removes what it wrote; failures are copied to `keep`."""
        ended = self.run(case)
        found, why = verdict(case, ended, self.place)
        if found != EXPECTED and keep:
            keep_failure(keep / found.replace(" ", "_"), case, ended, why)
        self.clean()
        return Result(kind, case, found, why, ended)

    def clean(self) -> None:
        for path in self.place.parent.glob(f"{self.place.name}*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


def keep_failure(folder: Path, case: Case, ended: Ended, why: str) -> None:
    """Writes the command and its output."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() else "_" for letter in f"{case.command} {case.name}")[:120]
    words = " ".join(map(ascii, case.words))
    text = f"python -m {case.command} {words}\n{why}; exit {ended.code}, {ended.seconds:.1f} s\n{ended.text}"
    (folder / f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def run_cases(bench: Bench, cases: Iterable[tuple[str, Case]], keep: Path | None) -> Iterator[Result]:
    """How each case ended; a number that is over a bound is followed by that bound."""
    for kind, case in cases:
        result = bench.judge(kind, case, keep)
        yield result
        if kind == "numbers" and (more := greatest(case, result.ended.text)):
            yield bench.judge("greatest", more, keep)


def summary(results: Sequence[Result]) -> str:
    """The table by command, and its total."""
    rows = []
    names = sorted({result.case.command for result in results})
    for name in (*names, "total"):
        own = [result for result in results if name in (result.case.command, "total")]
        counts = collections.Counter(result.verdict for result in own)
        seconds = sum(result.ended.seconds for result in own)
        rows.append((name, len(own), *(counts[each] for each in VERDICTS), f"{seconds:.0f}"))
    return table(HEAD, rows)


def chosen(cases: Iterable[tuple[str, Case]], args: argparse.Namespace) -> list[tuple[str, Case]]:
    """The cases of a command, a kind, a name and a part. A case keeps its part when others are added."""
    part, parts = args.part
    return [
        (kind, case)
        for kind, case in cases
        if args.only in case.command
        and args.kind in kind
        and args.named in case.name
        and zlib.crc32(ascii((case.command, case.name)).encode()) % parts == part - 1
    ]


def part_of(text: str) -> tuple[int, int]:
    """N/M as numbers.

    Raises ArgumentTypeError.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    part, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= part <= parts:
        raise argparse.ArgumentTypeError(f"expected N/M with N from 1 to M, got {text!r}")
    return part, parts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--only", default="", help="commands whose module has this in its name")
    parser.add_argument("--kind", default="", help="kinds whose name has this in it")
    parser.add_argument("--named", default="", help="cases whose name has this in it")
    parser.add_argument("--part", type=part_of, default="1/7", help="N/M: the N-th of M parts; 1/1 is all")
    parser.add_argument("--out", type=Path, help="folder for table.md, results.json and failures")
    parser.add_argument(
        "--cache", type=Path, help="folder for compiled programs and what cases are given, to start with"
    )
    parser.add_argument("--list", action="store_true", help="print the cases, and run none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile") as name:
        bench = Bench(Path(name), Limits(), args.cache and args.cache.absolute())
        start, results = time.monotonic(), []
        found = chosen(kinds.cases(lambda base: bench.help_of(BASES[base]), args.kind, args.only), args)
        if args.list:
            return print("\n".join(f"{kind}: {case.command} {case.name}" for kind, case in found))
        if not found:
            parser.error("no case has these names in this part")
        print(f"{len(found)} cases", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # the table of those so far
            for result in run_cases(bench, found, args.out):
                results.append(result)
                print_failure(result)
        bench.close()
    print(f"\n{summary(results)}\n\n{len(results)} cases in {(time.monotonic() - start) / 60:.1f} minutes")
    if args.out:
        write_results(args.out, results)
    sys.exit(any(result.verdict != EXPECTED for result in results))


def print_failure(result: Result) -> None:
    """A line for a case that did not end as expected."""
    if result.verdict != EXPECTED:
        line = f"{result.verdict}: {result.case.command} {result.case.name}: {result.why}"
        print(line.encode("ascii", "backslashreplace").decode(), flush=True)


def write_results(folder: Path, results: Sequence[Result]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(summary(results) + "\n")
    rows = [
        {
            "kind": result.kind,
            "command": result.case.command,
            "name": result.case.name,
            "verdict": result.verdict,
            "why": result.why,
            "code": result.ended.code,
            "seconds": round(result.ended.seconds, 2),
            "memory": result.ended.memory,
        }
        for result in results
    ]
    (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
