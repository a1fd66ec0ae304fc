"""A co-evolution in which each program only writes what the real one would: order, resuming and the table
can be tested in a second. test_coevolution_whole.py runs the real ones.
"""

import dataclasses
import json
from pathlib import Path

from PIL import Image

from tests.tiny_model import write_lora
from tests.tiny_run import make_recipe
from uno_jax.coevolution import SINGLE, TWO, Coevolution, Score
from uno_jax.data.config import SourceConfig
from uno_jax.evaluation.toybox.scorer import NAME
from uno_jax.families.uno.config import UnoPE
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

PROMPTS = 20


def make_config(folder: Path) -> Coevolution:
    """Two rounds on the tiny model, in a folder of its own."""
    recipe = make_recipe(folder)

    def stage(*paths: str) -> TrainConfig:
        data = dataclasses.replace(recipe.data, path="", sources=tuple(map(SourceConfig, paths)))
        return dataclasses.replace(recipe, data=data, steps=2, unope=UnoPE())

    def score(name: str, key: str, row: str) -> Score:
        path = (NAME, "single", "model", key)
        return Score(name, "toybox", path, percent=True, row=("model", row), kind="single")

    return Coevolution(
        model=recipe.weights,
        first=("--config", "small", "--limit", "4"),
        later=("--config", "small_referenced", "--limit", "4"),
        stage1=stage(SINGLE),
        stage2=stage(TWO, SINGLE),
        evaluations={"toybox": ("--suite", "toybox", "--kinds", "single", "--count", str(PROMPTS))},
        scores=(score("top-1", "top1", "top1"), score("scene", "scene_accuracy", "scene_right")),
        better="top-1",
        pictures=2 * PROMPTS,
    )


class Programs:
    """Takes the place of `run_program`. `twos` is the number of pairs of two references of each round, `top1`
    the number of right pictures of the base and of each round; the program called `stop` is interrupted
    before it writes anything, and `scale` is in the LoRAs.
    """

    def __init__(self, twos=(2, 2), top1=(2, 8, 18), singles=3, stop="", scale=1.0):
        self.twos, self.top1, self.singles, self.stop, self.scale = twos, top1, singles, stop, scale
        self.ran: list[str] = []
        self.words: dict[str, list[str]] = {}

    def __call__(self, what: str, module: str, *arguments: str) -> None:
        if what == self.stop:
            raise KeyboardInterrupt
        self.ran.append(what)
        self.words[what] = list(arguments)
        known = {"train": self.train, "evaluate": self.evaluate}
        known.get(module.split(".")[1], self.synthesise)(arguments)

    def synthesise(self, words) -> None:
        run = Path(words[words.index("--run") + 1])
        number = int(run.parent.name.removeprefix("round_"))
        twos = 0 if "--until" in words else self.twos[number - 1]
        counts = {"single/train": self.singles, "single/val": 0, "two/train": twos, "two/val": 0}
        kept = dict.fromkeys(("generate", "split", "filter-dino", "filter-vlm"), 4)
        funnel = {name: {"rows": 9, "kept": many, "left out": {}} for name, many in kept.items()}
        funnel["filter-dino"]["left out"] = {"the same background": 5}
        if "--until" not in words:
            funnel["second-reference"] = {"rows": 2, "kept": 2, "left out": {}}
        write(run / "export" / "datasheet.json", {"samples": counts, "funnel": funnel})
        Image.new("RGB", (32, 32), "red").save(run / "export" / "a.png")
        for kind, references in (("single", 1), ("two", 2)):
            entry = {
                "prompt": "a can",
                "image_paths": ["../a.png"] * references,
                "image_tgt_path": "../a.png",
            }
            write(run / "export" / kind / "train.json", [entry] * counts[f"{kind}/train"])

    def train(self, words) -> None:
        recipe = load_recipe(words[words.index("--config") + 1])
        assert not recipe.init_lora or Path(recipe.init_lora).is_dir()
        assert all(Path(source.path).is_file() for source in recipe.data.sources)
        write_lora(Path(recipe.workdir) / "lora", UnoPE("d", self.scale))
        (Path(recipe.workdir) / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')

    def evaluate(self, words) -> None:
        out = Path(words[words.index("--out") + 1])
        number = int(out.parent.name.removeprefix("round_").replace("base", "0"))
        right = [index < self.top1[number] for index in range(PROMPTS)]
        verdict = [{"top1": each, "scene_right": True, "scene": "snow", "cosine": 0.5} for each in right]
        shown = {"top1": sum(right) / PROMPTS, "scene_accuracy": 1.0, "cosine": 0.5}
        rows = [
            {"kind": "single", "index": i, "prompt": f"can {i}", "subjects": ["can"], "model": each}
            for i, each in enumerate(verdict)
        ]
        scores = {"single": dict.fromkeys(("model", "without_reference", "real"), shown)}
        write(out / "scores.json", {"suite": "toybox", NAME: scores, "rows": rows})


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
