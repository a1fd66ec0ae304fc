"""Conversations, as the reference's inferencer holds them: answers, thoughts, several turns, and drawings."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .scone_contexts import Branch, Drawn, Story, Written, drawn, written
from .scone_drawing import of_drawing, references, slots_of, target_of
from .scone_folder import Golden

VARIANT = "text_channel"
Step = str | int
ALL, LAST, WRITE, THINK = "references", "last reference", "write", "think"
# Names of texts, numbers of references, and what is done between them.
RUNS: dict[str, tuple[Step, ...]] = {
    "understand": (ALL, "question", WRITE),
    "understand_think": ("system_und", 0, "question", WRITE),
    "think": ("system_gen", ALL, "instruction", WRITE, THINK),
    "t2i": ("instruction",),
    "t2i_img2": ("instruction",),
    "two_turns": (0, "instruction", LAST, "second"),
    "text_first": ("instruction", 0),
}
SEEN_ONLY = ("understand", "understand_think")
"""Runs whose references are not drawn."""
OPTIONS: dict[str, dict[str, Any]] = {
    "t2i": {"cfg_img_scale": 1.0, "cfg_renorm_type": "global"},
}


class Run:
    """One conversation, with what was written in it and, where it draws, its drawing."""

    def __init__(self, golden: Golden, name: str) -> None:
        self.golden, self.name = golden, name
        texts = {key: golden.arrays[f"inf2/text_ids/{key}"].tolist() for key in RUNS[name] if is_text(key)}
        steps = len(golden.arrays.get(f"inf2/{name}/logits", ()))
        self.story = Story(golden, slots_of(golden, *map(len, texts.values()), steps, steps))
        self.written: Written | None = None
        self.decoded: list[tuple[int, int, int]] = []  # place among calls, tokens cached, position
        for step in RUNS[name]:
            if step == WRITE:
                self.write(steps)
            elif step == THINK:
                self.story.tell(self.thought, alone=False)
            elif is_text(step):
                self.story.tell(texts[step])  # type: ignore[index]
            else:
                self.show(step)

    @property
    def thought(self) -> list[int]:
        """What was written, without bos."""
        return [] if self.written is None else self.written.ids[1:]

    def show(self, step: Step) -> None:
        every = references(self.golden)
        shown = every if step == ALL else every[-1:] if step == LAST else [every[int(step)]]
        for latent, cells, grids in shown:
            self.story.show(None if self.name in SEEN_ONLY else latent, cells, grids)

    def write(self, steps: int) -> None:
        cond = self.story.branches["cond"]
        self.written = written(self.golden, self.story.cond, steps)
        place, position = len(self.story.calls), int(cond.position[0])
        self.decoded = [(place, cond.cached + step, position + step) for step in range(steps)]

    @property
    def branches(self) -> dict[str, Branch]:
        """A list that ends in a picture leaves the reference's context without text as it was."""
        found = self.story.branches
        return found | {"text": found["cond"]} if self.name == "text_first" else found

    def drawn(self) -> Drawn:
        if ("run", self.name) not in self.golden.made:
            options = self.golden.record["infer_variants"][VARIANT] | OPTIONS.get(self.name, {})
            noise = self.golden.arrays["inf/init_noise"]
            made = drawn(self.golden, self.branches, target_of(self.golden), noise, options)
            self.golden.made["run", self.name] = made
        found: Drawn = self.golden.made["run", self.name]
        return found

    def calls(self, what: str) -> list[Any]:
        """Something of every call, those of writing among the others."""
        rows = [
            {
                "kind": call.kind,
                "tokens": call.split.length,
                "cached": call.cached,
                "first_position": call.position,
                "last_position": call.last_position,
            }
            for call in self.story.calls
        ]
        for place, cached, position in reversed(self.decoded):
            row = {"kind": "und_causal", "tokens": 1, "cached": cached}
            rows.insert(place, row | {"first_position": position, "last_position": position})
        return [row[what] for row in rows]


def is_text(step: Step) -> bool:
    return isinstance(step, str) and step not in (ALL, LAST, WRITE, THINK)


def run_of(golden: Golden, name: str) -> Run:
    if ("story", name) not in golden.made:
        golden.made["story", name] = Run(golden, name)
    made: Run = golden.made["story", name]
    return made


def call_records(golden: Golden, name: str, what: str) -> np.ndarray:
    return np.array(run_of(golden, name).calls(what))


def last_output(golden: Golden, name: str) -> np.ndarray:
    """Of the last call of more than one token."""
    return run_of(golden, name).story.calls[-1].output


def writing(golden: Golden, name: str, what: str) -> Any:
    made = run_of(golden, name).written
    if made is None:
        raise KeyError(f"a text written in the run {name}")
    return np.array(made.ids[1:]) if what == "generated_ids" else made.logits


def counts(golden: Golden, name: str, what: str, suffix: str) -> np.ndarray:
    branch = run_of(golden, name).branches[{"": "cond", "_text": "text", "_img": "image"}[suffix or ""]]
    return np.array([branch.cached]) if what == "kv_lens" else np.asarray(branch.position)


def drawing(golden: Golden, name: str, what: str) -> np.ndarray:
    return of_drawing(golden, run_of(golden, name).drawn(), what)


def names(runs: Iterable[str]) -> str:
    return "|".join(sorted(runs, key=len, reverse=True))


OUTPUTS: dict[str, Callable[..., np.ndarray]] = {
    rf"inf2/({names(RUNS)})/call_(\w+)": call_records,
    rf"inf2/({names(RUNS)})/last_prefill_output": last_output,
    rf"inf2/({names(RUNS)})/(generated_ids|logits)": writing,
    rf"inf2/({names(RUNS)})/(kv_lens|rope)(_text|_img)?": counts,
    rf"inf2/({names(RUNS)})/(t|x_t|v_final|final_latent)": drawing,
}
