"""What happens on the page: functions from its fields' values to what it shows, made for a studio."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from uno_jax.families.progress import Progress
from uno_jax.families.registry import family_of
from uno_jax.sampling.prompt_length import cut_prompts
from uno_jax.sampling.request import MAX_SEED, make_settings, prepare_refs
from uno_jax.sampling.settings import given_options
from uno_jax.support.images import read_image
from uno_jax.support.words import counted
from uno_jax.web.history import Drawn, read_history
from uno_jax.web.studio import MAX_IMAGES, Cancelled, Form, Studio, check_count

Fields = dict[str, Component]
Shown = list[tuple[Any, str]]
NOT_OPTIONS = {"prompt", "refs", "negative", "width", "height", "seed", "random", "num_images"}
LORA = "lora "  # before the number of a LoRA, as the name of its strength
FAULTS = (ValueError, OSError, FloatingPointError, MemoryError)


def fault(error: Exception) -> gr.Error:
    """What the page says of an error, without the server's folders."""
    return gr.Error(str(error), title="This cannot be drawn", print_exception=False)


def seen_by(studio: Studio) -> Callable[[list[str] | None], Shown]:
    """The uploads as the model sees them, each with its size."""

    def show(paths: list[str] | None) -> Shown:
        try:
            check_count(paths or ())
            names = [Path(path).name for path in paths or []]
            pictures = [read_image(path, name) for path, name in zip(paths or [], names, strict=True)]
            prepared = prepare_refs(studio.config, pictures, None, names)
        except FAULTS as error:
            raise fault(error) from None
        return [(picture, f"{i}: {picture.width}x{picture.height}") for i, picture in enumerate(prepared, 1)]

    return show


PROGRESS = gr.Progress()  # gradio gives each call one of its own


def drawing(studio: Studio, fields: Fields) -> Callable[..., tuple[Shown, str]]:
    """Draws what the form says."""

    def draw(
        values: dict[Component, Any], request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> tuple[Shown, str]:
        def watch(told: Progress) -> None:
            steps = f", step {told.step} of {told.steps}" if told.steps else ""
            progress(told.step / max(told.steps, 1), desc=f"{told.phase}{steps}")

        try:
            form = read_form({name: values[field] for name, field in fields.items()})
            for line in cut_prompts(studio.config, [form.prompt, form.negative]):
                gr.Warning(line.removeprefix("warning: "))
            made = studio.draw(form, str(request.session_hash), watch)
        except Cancelled:
            return [], "Cancelled."
        except FAULTS as error:
            raise fault(error) from None
        numbers = range(form.seed, form.seed + len(made))
        shown = [(str(path), f"seed {seed}") for path, seed in zip(made, numbers, strict=True)]
        return shown, f"{counted(len(made), 'picture')}, in {studio.folder.name}/ from {made[0].name}"

    return draw


def read_form(values: dict[str, Any]) -> Form:
    """The form that the fields' values make.

    Raises ValueError for a number that is missing, and for a seed that is out of bounds.
    """
    if missing := [name for name, value in values.items() if value is None and name != "refs"]:
        raise ValueError(f"{', '.join(missing)}: no value")
    strengths = [value for name, value in values.items() if name.startswith(LORA)]
    options = {
        name: value for name, value in values.items() if name not in NOT_OPTIONS and not name.startswith(LORA)
    }
    for name in ("steps", "points"):
        if name in options:
            options[name] = int(options[name])
    seed = random.randint(0, MAX_SEED - MAX_IMAGES) if values["random"] else int(values["seed"])
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"the seed must be from 0 to {MAX_SEED}, got {seed}")
    return Form(
        values["prompt"],
        [Path(path) for path in values["refs"] or []],
        values.get("negative", ""),
        int(values["width"]),
        int(values["height"]),
        seed,
        int(values["num_images"]),
        options,
        strengths,
    )


def cancelling(studio: Studio) -> Callable[[gr.Request], None]:
    """Ends the drawing that this page began."""

    def cancel(request: gr.Request) -> None:
        # Not in the status: the drawing's own last words might have come before.
        ended = studio.cancel(str(request.session_hash))
        gr.Info("It ends after this step." if ended else "This page is drawing nothing.")

    return cancel


def history_of(studio: Studio) -> Callable[[], tuple[Shown, list[Drawn]]]:
    """The latest pictures, for the gallery and to choose from."""

    def show() -> tuple[Shown, list[Drawn]]:
        found = read_history(studio.folder)
        return [(str(each.picture), each.caption) for each in found], found

    return show


def choose(listed: list[Drawn], event: gr.SelectData) -> tuple[Drawn, dict[str, Any]]:
    """The picture at the place that was clicked, and its settings, with files by their names."""
    drawn = listed[event.index]
    return drawn, {name: named(value) for name, value in drawn.record.items() if name != "schedule"}


def named(value: Any) -> Any:
    """A value with the last parts of paths in place of the server's."""
    if isinstance(value, dict):
        return {name: named(each) for name, each in value.items()}
    if isinstance(value, list):
        return [named(each) for each in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def filling(studio: Studio, fields: Fields) -> Callable[[Drawn | None], list[Any]]:
    """The fields' values for the settings of a picture; those that it does not say stay as they are. Warns of
    what the form does not have.
    """
    sampler = family_of(studio.config).sampler

    def fill(chosen: Drawn | None) -> list[Any]:
        if chosen is None:
            raise gr.Error("Choose a picture of the history first.", print_exception=False)
        record, strengths = sampler.options_of(chosen.record), strengths_in(chosen.record)
        own = {str(path.absolute()): f"{LORA}{number}" for number, (path, _) in enumerate(studio.loras)}
        for path in strengths.keys() - own.keys():
            gr.Warning(f"It was drawn with the LoRA {Path(path).name}, which this page does not have.")
        asked = [ref["path"] for ref in record.get("refs", ())]
        refs = [path for path in asked if Path(path).is_file()]
        for path in asked:
            if path not in refs:
                gr.Warning(f"Its reference {Path(path).name} is not there any more.")
        if others := settings_elsewhere(studio, fields, record):
            gr.Warning(f"It was drawn with another {', '.join(others)}, which cannot be set on this page.")
        # Without a scale of their own references are guided as prompts are.
        known = {"image_cfg": record.get("true_cfg")} | record
        known |= {name: strengths.get(path, 0) for path, name in own.items()}
        known |= {
            "refs": refs,
            "random": False,
            "num_images": 1,
            "negative": record.get("negative", ""),
        }
        return [known[name] if name in known else gr.skip() for name in fields]

    return fill


def settings_elsewhere(studio: Studio, fields: Fields, record: dict[str, Any]) -> list[str]:
    """What the form does not have of the options of a picture's record, and is not as the page draws."""
    sampler, side = family_of(studio.config).sampler, studio.config.defaults.resolution
    settings = make_settings(studio.config, None, given_options(studio.args))
    here = sampler.options_of(settings.record(side, side))
    absent = [name for name in sampler.options if name not in (*fields, "unope", "strength")]
    other = [name for name in absent if here.get(name) != record.get(name)]
    return other + [name for name in ("left", "start", "mask") if name in record]


def strengths_in(record: dict[str, Any]) -> dict[str, float]:
    """The strengths of the LoRAs of a picture's settings (`results.common_record`), by their paths."""
    if record.get("lora"):
        return {record["lora"]: 1.0}
    return {each["path"]: each["strength"] for each in record.get("loras", ())}
