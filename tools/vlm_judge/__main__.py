"""Drawn pictures -> DIR/judge.json: how well they follow their prompts and keep their subjects, 0 to 10.

python -m tools.vlm_judge --evaluation DIR --model NAME --endpoint URL
python -m tools.vlm_judge --list FILE --pictures DIR --backend transformers --model NAME

Answers are kept in DIR/judge.jsonl: the same command again asks for what is missing.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from uno_jax.support.atomic import whole_file

from ..common.manifest import Json, Manifest, SynthesisError, counted
from ..synthesize_data.pipeline.run import locked
from .cases import Case, evaluation_cases, list_cases
from .judge import WORDING, JudgeConfig, check_config, judge
from .scores import record


@dataclass(frozen=True)
class Args:
    """Let a vision-language model judge drawn pictures beside their references: instruction following and
    subject consistency, 0 to 10. The same command again asks only for what is missing.
    """

    evaluation: Path | None = None
    """The --out of `uno_jax.evaluate --suite dreambench-…`."""
    list_file: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """In place of --evaluation: a list in UNO's form, with --pictures."""
    pictures: Path | None = None
    """Folder of {entry}_{image}.png; of an evaluation, where its pictures are now."""
    num_images: int = 1
    """Of --list: pictures an entry."""
    data: Path | None = None
    """Folder of the subjects' folders, to look up references in, as that of uno_jax.evaluate; default where
    prompts.json or the list says.
    """
    out: Path | None = None
    """Directory for judge.json and judge.jsonl; default the evaluation's, or that of the pictures."""
    judging: Annotated[JudgeConfig, tyro.conf.arg(name="")] = field(default_factory=JudgeConfig)


def main(argv: Sequence[str] | None = None) -> None:
    args = tyro.cli(Args, args=argv, prog="python -m tools.vlm_judge")
    try:
        told(run(args))
    except (SynthesisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def run(args: Args) -> Json:
    """Judges and writes judge.json; what it holds. Raises SynthesisError."""
    check_config(args.judging)
    cases, out = find_cases(args)
    with locked(out):
        answers = judge(cases, Manifest(out / "judge.jsonl"), args.judging)
        found = record(settings(args), cases, answers)
        if not found["scores"]:
            raise SynthesisError(
                f"not one usable answer to {len(cases) * args.judging.rounds} questions; the first:"
                f" {found['reasons'][0]}. --retry-failed asks again"
            )
        with whole_file(out / "judge.json") as aside:
            aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {out / 'judge.json'}")
    return found


def find_cases(args: Args) -> tuple[list[Case], Path]:
    """What is to be judged, and the directory for the result. Raises SynthesisError."""
    if (args.evaluation is None) == (args.list_file is None):
        raise SynthesisError("pass either --evaluation DIR, or --list FILE and --pictures DIR")
    if args.num_images < 1:
        raise SynthesisError(f"--num-images must be 1 or more, got {args.num_images}")
    if args.evaluation is not None:
        return evaluation_cases(args.evaluation, args.data, args.pictures), args.out or args.evaluation
    if args.list_file is None or args.pictures is None:
        raise SynthesisError("--list needs --pictures, the folder of {entry}_{image}.png")
    return list_cases(args.list_file, args.data, args.pictures, args.num_images), args.out or args.pictures


def settings(args: Args) -> Json:
    """Everything that the scores depend on."""
    return {
        "evaluation": None if args.evaluation is None else str(args.evaluation),
        "list": None if args.list_file is None else str(args.list_file),
        "rounds": args.judging.rounds,
        **counted(args.judging),
        "wording": WORDING,
    }


def told(found: Json) -> None:
    for name, score in found["scores"].items():
        spread = "" if score["spread"] is None else f" (standard deviation of rounds {score['spread']:.3f})"
        print(f"{name} {score['mean']:.3f}{spread}")
    if found["malformed"] or found["failed"]:
        print(
            f"{found['malformed']} answers malformed, {found['failed']} failed otherwise; the first:"
            f" {found['reasons'][0]}. --retry-failed asks again"
        )


if __name__ == "__main__":
    main()
