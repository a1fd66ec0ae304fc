"""The page in gradio's blocks: a form, the references as the model sees them, pictures, and the history."""

from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from uno_jax.families.registry import family_of
from uno_jax.sampling.generate import SEED
from uno_jax.support.images import MULTIPLE, SUFFIXES
from uno_jax.web import handlers
from uno_jax.web.studio import MAX_IMAGES, MAX_REFS, Studio

STYLE = "footer { display: none !important } .gradio-container { max-width: 76rem !important }"
THEME = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
LARGEST = 2048  # pixels of a side
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class Number(NamedTuple):
    """A setting of a family that the page offers, and the range of its slider."""

    label: str
    least: float
    most: float
    step: float


NUMBERS = {
    "steps": Number("Steps", 1, 100, 1),
    "points": Number("Points of the schedule (steps and one)", 2, 101, 1),
    "guidance": Number("Guidance", 0, 20, 0.1),
    "true_cfg": Number("True CFG (1 is off)", 1, 10, 0.1),
    "text_cfg": Number("Guidance by the prompt (1 is off)", 1, 10, 0.1),
    "image_cfg": Number("Guidance by the references (1 is off)", 1, 10, 0.1),
}


def build_page(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    page = gr.Blocks(title="uno_jax", analytics_enabled=False, delete_cache=(3600, 86_400))
    with page:
        gr.Markdown(f"# uno_jax: {studio.args.model}")
        with gr.Row():
            with gr.Column(min_width=320):
                fields, refs, seen = make_form()
                with gr.Row():
                    draw = gr.Button("Draw", variant="primary", elem_id="draw")
                    cancel = gr.Button("Cancel", elem_id="cancel")
                fields |= make_settings_form(studio)
            with gr.Column(min_width=320):
                pictures = gr.Gallery(label="Pictures", elem_id="pictures", columns=2, interactive=False)
                status = gr.Markdown("", elem_id="status")
        with gr.Accordion("History", elem_id="history"):
            history = gr.Gallery(
                label="Newest first", columns=6, fit_columns=False, interactive=False, allow_preview=False
            )
            again = gr.Button("Use the settings of the chosen picture", elem_id="again")
            record = gr.JSON(label="Its settings", elem_id="record")
        listed, chosen = gr.State([]), gr.State(None)
        listing = {"fn": handlers.history_of(studio), "outputs": [history, listed], **QUIET}
        page.load(**listing)
        refs.change(handlers.seen_by(studio), refs, seen, **QUIET)
        drawn = draw.click(
            handlers.drawing(studio, fields),
            set(fields.values()),
            [pictures, status],
            api_visibility="private",
            concurrency_limit=None,  # the studio draws one after another, and can end what waits
        )
        drawn.then(**listing)
        cancel.click(handlers.cancelling(studio), None, None, concurrency_limit=None, **QUIET)
        history.select(handlers.choose, listed, [chosen, record], **QUIET)
        again.click(handlers.filling(studio, fields), chosen, list(fields.values()), **QUIET)
    return page


def make_form() -> tuple[dict[str, Component], gr.File, gr.Gallery]:
    """What is drawn: the fields by the names of what they give, the one of references, and where these are
    shown prepared.
    """
    prompt = gr.Textbox(label="Prompt", lines=3, elem_id="prompt")
    refs = gr.File(
        label=f"References, up to {MAX_REFS}",
        file_count="multiple",
        file_types=sorted(SUFFIXES),
        elem_id="refs",
        height=140,
    )
    seen = gr.Gallery(
        label="As the model sees them",
        elem_id="seen",
        columns=MAX_REFS,
        fit_columns=False,
        height=200,
        object_fit="contain",
        interactive=False,
        allow_preview=False,
    )
    return {"prompt": prompt, "refs": refs}, refs, seen


def make_settings_form(studio: Studio) -> dict[str, Component]:
    """How it is drawn: the settings of the model's family, with its defaults."""
    sampler, defaults = family_of(studio.config).sampler, studio.default_values()
    side = studio.config.defaults.resolution
    fields: dict[str, Component] = {}
    if "negative" in sampler.takes:
        fields["negative"] = gr.Textbox(label="Negative prompt (with true CFG above 1)", elem_id="negative")
    with gr.Row():
        # Without gradio's own bounds, which the server reports as a fault of the program.
        fields["seed"] = gr.Number(SEED, label="Seed", elem_id="seed", precision=0)
        fields["random"] = gr.Checkbox(False, label="Another seed each time")
    fields["num_images"] = gr.Slider(1, MAX_IMAGES, 1, step=1, label="Pictures", elem_id="num_images")
    with gr.Row():
        for name in ("width", "height"):
            fields[name] = gr.Slider(
                MULTIPLE, LARGEST, side, step=MULTIPLE, label=name.capitalize(), elem_id=name
            )
    for name in (name for name in sampler.options if name in NUMBERS and defaults.get(name) is not None):
        label, least, most, step = NUMBERS[name]
        fields[name] = make_slider(least, most, defaults[name], step=step, label=label, elem_id=name)
    for number, (path, strength) in enumerate(studio.loras):
        title = path.name if path.suffix else f"{path.parent.name}/{path.name}"
        fields[f"{handlers.LORA}{number}"] = make_slider(
            -2, 2, strength, step=0.05, label=f"LoRA {title}: strength", elem_id=f"lora{number}"
        )
    return fields


def make_slider(least: float, most: float, value: float, **about: Any) -> gr.Slider:
    """A slider whose range holds its value, which the command line may have given."""
    return gr.Slider(min(least, value), max(most, value), value, **about)
