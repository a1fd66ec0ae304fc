"""`uno COMMAND …`, `python -m uno_jax COMMAND …`: every command of the project behind one name."""

import sys
from collections.abc import Sequence
from importlib import import_module

from uno_jax.support.tools_package import installed_name

# Where each command is, and what it does. tools/ is installed as uno_jax_tools.
COMMANDS = {
    "sample": ("uno_jax.sample", "pictures of one prompt or of a list of jobs"),
    "train": ("uno_jax.train", "one training run by a recipe, or what it would need"),
    "train-small": ("uno_jax.train_small", "the small model on the toy world, in minutes on a GPU"),
    "encode": ("uno_jax.encodings", "encode a recipe's lists once, to train from"),
    "evaluate": ("uno_jax.evaluate", "a suite's prompts, drawn and scored"),
    "ceilings": ("uno_jax.evaluation.__main__", "the scores that real composites get in the toybox suite"),
    "report": ("uno_jax.report", "one page of evaluations and training runs"),
    "ablate": ("uno_jax.ablate", "a grid of trainings and evaluations"),
    "coevolve": ("uno_jax.coevolve", "rounds of pairs, training on them, and pairs by what was trained"),
    "data": ("uno_jax.data.__main__", "check a training list, or pack it into shards"),
    "toybox": ("uno_jax.toybox.__main__", "draw samples of the toy world"),
    "calibrate": ("uno_jax.calibrate", "what leaving steps out would cost a model"),
    "web": ("uno_jax.web.__main__", "a page in the browser that draws"),
    "demo": ("uno_jax.demo", "a tour of the small model"),
    "convert": (
        "tools.convert_weights.__main__",
        "convert weights and LoRAs of other programs, or export to them",
    ),
    "synthesize": ("tools.synthesize_data.__main__", "training pairs from weaker models"),
    "judge": ("tools.vlm_judge.__main__", "scores by a vision-language model"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names with the remaining arguments."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: uno COMMAND …\n\nuno COMMAND --help lists a command's options.\n")
        print("\n".join(f"  {name:<11} {about}" for name, (_, about) in COMMANDS.items()))
        return
    if words[0] not in COMMANDS:
        print(f"error: no command {words[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    import_module(installed_name(COMMANDS[words[0]][0])).main(words[1:])


if __name__ == "__main__":
    main()
