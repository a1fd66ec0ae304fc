"""The command `uno-judge`; `python -m tools.vlm_judge` in a checkout.

uno-judge --evaluation DIR --model NAME --endpoint URL
uno-judge --list FILE --pictures DIR --backend transformers --model NAME

The scores are written to DIR/judge.json, the answers to DIR/judge.jsonl: the same command again asks only for
missing ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from uno_jax.support.atomic import atomic_write, check_output_folder
from uno_jax.support.bounds import Count
from uno_jax.support.command_line import parse_args
from uno_jax.support.folder_lock import locked
from uno_jax.support.words import counted

from ..common.command_line import exit_on_tool_errors
from ..common.errors import ToolError
from ..common.manifest import Json, Manifest, id_settings
from .cases import Case, evaluation_cases, list_cases
from .forms import ASPECTS, FORMS
from .judge import JudgeConfig, check_settings, judge_cases
from .scores import kind_lines, summarize


@dataclass(frozen=True)
class Args:
    """Let a vision-language model judge drawn pictures beside their references: instruction following and
    subject consistency, 0 to 10, in the words of a --form. The same command again asks only for what is
    missing.
    """

    evaluation: Path | None = None
    """Output directory of `uno_jax.evaluate --suite dreambench-…` or `--suite list`."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """Instead of --evaluation: a list in UNO's format, with --pictures."""
    pictures: Path | None = None
    """Folder of {entry}_{image}.png; with --evaluation, where its pictures are now."""
    num_images: Count = 1
    """With --list: pictures per entry."""
    data: Path | None = None
    """Folder that contains the subjects' folders, as for uno_jax.evaluate, to look up references in; default:
    the paths in prompts.json or the list.
    """
    out: Path | None = None
    """Directory for judge.json and judge.jsonl; default: that of the evaluation, or of the pictures."""
    judging: Annotated[JudgeConfig, tyro.conf.arg(name="")] = field(default_factory=JudgeConfig)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(Args, "uno-judge", argv)
    with exit_on_tool_errors():
        found, path = run_judge(args)
        print_scores(found)
        print(f"wrote {path}")


def run_judge(args: Args) -> tuple[Json, Path]:
    """Judges the pictures and writes judge.json; returns its content and its path.

    Raises ToolError.
    """
    check_settings(args.judging)
    cases, out = find_cases(args)
    check_output_folder("--out", out)
    with locked(out):
        answers = judge_cases(cases, Manifest(out / "judge.jsonl"), args.judging)
        found = summarize(used_settings(args, cases), cases, answers, FORMS[args.judging.form])
        if not found["scores"]:
            raise ToolError(
                f"no usable answer to {counted(sum(map(len, answers)), 'question')}; the first:"
                f" {found['reasons'][0]}. --retry-failed asks again"
            )
        with atomic_write(out / "judge.json") as partial:
            partial.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found, out / "judge.json"


def find_cases(args: Args) -> tuple[list[Case], Path]:
    """Returns what is to be judged, and the directory for the result.

    Raises ToolError.
    """
    if (args.evaluation is None) == (args.list_file is None):
        raise ToolError("pass either --evaluation DIR, or --list FILE and --pictures DIR")
    if args.evaluation is not None:
        return evaluation_cases(args.evaluation, args.data, args.pictures), args.out or args.evaluation
    if args.list_file is None or args.pictures is None:
        raise ToolError("--list needs --pictures, the folder of {entry}_{image}.png")
    return list_cases(args.list_file, args.data, args.pictures, args.num_images), args.out or args.pictures


def used_settings(args: Args, cases: Sequence[Case]) -> Json:
    """Everything that the scores depend on."""
    aspects = dict.fromkeys(each for case in cases for each in FORMS[args.judging.form].aspects(case))
    wordings = {aspect: ASPECTS[aspect].wording for aspect in aspects}
    return {
        "evaluation": None if args.evaluation is None else str(args.evaluation),
        "list": None if args.list_file is None else str(args.list_file),
        "rounds": args.judging.rounds,
        **id_settings(args.judging),
        "form": args.judging.form,
        "wording": next(iter(wordings.values())) if len(wordings) == 1 else wordings,
    }


def print_scores(found: Json) -> None:
    if any("category" in row for row in found["rows"]):
        print("\n".join(kind_lines(found)))
        print("another judge, in other words, than of published scores: compare only with the same ones")
    for name, score in found["scores"].items():
        spread = "" if score["spread"] is None else f" (standard deviation of rounds {score['spread']:.3f})"
        print(f"{name} {score['mean']:.3f}{spread}")
    if found["malformed"] or found["failed"]:
        malformed, reason = counted(found["malformed"], "answer"), found["reasons"][0]
        print(
            f"{malformed} malformed, {found['failed']} failed otherwise; the first: {reason}."
            " --retry-failed asks again"
        )


if __name__ == "__main__":
    main()
