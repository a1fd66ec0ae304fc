"""Subjects, scenes and diptychs: from templates and from a scripted endpoint; limits, shares, determinism."""

import dataclasses
import json

import pytest

from tests.tools.language_models.openai_server import in_turn, obliging, said, serving
from tools.common.errors import ToolError
from tools.common.hashed_choice import hash_number, scattered
from tools.common.manifest import Failed, Job
from tools.language_models.config import ModelConfig
from tools.synthesize_data.config import (
    DiptychsConfig,
    ScenesConfig,
    SubjectsConfig,
    SynthConfig,
    TaxonomyConfig,
)
from tools.synthesize_data.pipeline.run import open_run
from tools.synthesize_data.stages import diptychs, scenes, subjects
from tools.synthesize_data.stages.order import STAGES
from tools.synthesize_data.text import prompts
from tools.synthesize_data.text.clip_length import clip_length
from tools.synthesize_data.text.phrases import apply_limits, key, with_article
from tools.synthesize_data.text.templates import fill_templates, template_fields
from uno_jax.tokenizers import clip_tokens

TEXT = ("taxonomy", "subjects", "scenes", "diptychs")
TEMPLATES = SynthConfig(
    taxonomy=TaxonomyConfig(groups=("music", "street")),
    subjects=SubjectsConfig(backend="template", per_manner=6),
    scenes=ScenesConfig(backend="template", plain=0.25),
    diptychs=DiptychsConfig(per_subject=2),
)


def changed(config: SynthConfig, stage: str, **fields) -> SynthConfig:
    return dataclasses.replace(config, **{stage: dataclasses.replace(getattr(config, stage), **fields)})


def made(folder, config: SynthConfig, stages=TEXT) -> dict[str, list]:
    with open_run(folder, config, STAGES) as run:
        for stage in stages:
            run.run_stage(stage)
        return {stage: run.rows(stage) for stage in stages}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A run of the templates: 24 categories, three manners."""
    return made(tmp_path_factory.mktemp("run"), TEMPLATES)


def one(stage, config: SynthConfig, tmp_path, **inputs):
    (result,) = stage.worker(config, tmp_path)([Job("id", {"parent": "", **inputs})])
    return result


def test_templates_give_distinct_short_subjects_of_every_manner(rows):
    assert len(rows["subjects"]) == 24 * 3
    for row in rows["subjects"]:
        listed = row.result["subjects"]
        assert len(listed) == 6 == len({key(subject) for subject in listed})
        assert all(row.inputs["category"] in subject for subject in listed)
        assert all(len(subject.split()) <= 12 for subject in listed)
        if row.inputs["manner"] == "with text":
            assert all(subject.count('"') == 2 for subject in listed)
    with_drum = [row.result["subjects"] for row in rows["subjects"] if row.inputs["category"] == "drum"]
    assert len({subject for listed in with_drum for subject in listed}) == 18


def test_templates_can_give_the_papers_fifty(tmp_path):
    config = changed(TEMPLATES, "subjects", per_manner=50)
    for manner in prompts.MANNERS:
        result = one(subjects, config, tmp_path, category="French horn", group="music", manner=manner)
        assert len(result["subjects"]) == 50


def test_the_category_alone_is_a_template(tmp_path):
    config = changed(TEMPLATES, "subjects", templates=("{category}",), per_manner=1)
    result = one(subjects, config, tmp_path, category="guide dog", group="pets", manner="realistic")
    assert result == {"subjects": ["guide dog"], "dropped": {}}


def test_limits_drop_and_count():
    texts = ["An owl.", "the  OWL", "owl", " ", "a", "x" * 9, "one\0two", "cat\n sat", "dog", "hen"]
    kept, dropped = apply_limits(texts, 3, lambda text: len(text) > 8)
    assert kept == ["An owl", "a", "cat sat"]
    assert dropped == {
        "duplicate": 2,
        "empty": 1,
        "too long": 1,
        "not printable": 1,
        "more than asked for": 2,
    }


def test_subjects_of_a_model_are_held_to_the_limits(tmp_path):
    long = "owl with " + " ".join(f"stripe{number}" for number in range(11))
    answers = [json.dumps({"subjects": [long]}), json.dumps({"subjects": [long, "Barn owl", "the barn owl"]})]
    with serving(in_turn(*answers)) as server:
        config = SynthConfig(llm=ModelConfig(model="m", endpoint=server.url))
        result = one(subjects, config, tmp_path, category="owl", group="animals", manner="realistic")
        assert len(server.requests) == 2
    assert result == {"subjects": ["Barn owl"], "dropped": {"too long": 1, "duplicate": 1}}
    assert 'a kind of "owl" (animals)' in said(server.requests[0]["messages"][0])
    assert "no subject within 12 words" in said(server.requests[1]["messages"][2])


def test_every_subject_gets_scenes_once(rows):
    listed = {key(subject) for row in rows["subjects"] for subject in row.result["subjects"]}
    assert {key(row.inputs["subject"]) for row in rows["scenes"]} == listed
    assert len(rows["scenes"]) == len(listed)
    for row in rows["scenes"]:
        assert len(set(row.result["scenes"])) == 8


@pytest.mark.slow
def test_a_subject_that_comes_twice_in_a_run_gets_scenes_once(tmp_path):
    config = changed(TEMPLATES, "subjects", templates=("the instrument",), per_manner=1)
    counts = {stage: len(found) for stage, found in made(tmp_path, config, TEXT[:3]).items()}
    assert counts == {"taxonomy": 24, "subjects": 72, "scenes": 1}


def test_the_share_of_plain_backgrounds(rows):
    plain = [row for row in rows["scenes"] if row.inputs["plain"]]
    assert 0.15 < len(plain) / len(rows["scenes"]) < 0.35
    own, others = (
        {scene for row in rows["scenes"] if row.inputs["plain"] == flag for scene in row.result["scenes"]}
        for flag in (True, False)
    )
    assert not own & others


def test_clip_counts_as_uno_jax_does():
    texts = ["on a pier", "café à l’été №7, it's 1984!!", "x" * 300, "", "雪の上 🦉", "A  B\tc"]
    for text in texts:
        end = clip_tokens([text], 1024)[0].tolist().index(49407)
        assert clip_length(text) == end + 1, text


def test_scenes_of_a_model_are_held_to_the_limits(tmp_path):
    long = "in " + "fog " * 75
    few, good = [long, "at sea"], [long, "at sea", "At  sea.", "on ice", long[:-4]]
    answers = [json.dumps({"scenes": listed}) for listed in (few, good)]
    inputs = {"subject": "owl", "category": "owl", "group": "animals", "plain": True}
    with serving(in_turn(*answers)) as server:
        config = SynthConfig(llm=ModelConfig(model="m", endpoint=server.url))
        result = one(scenes, config, tmp_path, **inputs)
    assert clip_length(long) == 78
    assert result["scenes"] == ["at sea", "on ice", long[:-4].strip()]
    assert result["dropped"] == {"too long": 1, "duplicate": 1}
    assert "plain backgrounds" in said(server.requests[0]["messages"][0])


def test_too_few_scenes_fail_the_subject(tmp_path):
    inputs = {"subject": "owl", "category": "owl", "group": "animals", "plain": False}
    with serving(in_turn('{"scenes": ["at sea"]}')) as server:
        config = SynthConfig(llm=ModelConfig(model="m", endpoint=server.url, attempts=2))
        result = one(scenes, config, tmp_path, **inputs)
    assert isinstance(result, Failed) and "1 scenes where a diptych takes 2" in result.reason


def test_diptychs_are_of_two_scenes_of_their_subject(rows):
    by_id = {row.id: row for row in rows["scenes"]}
    groups = {row.inputs["subject"]: row.inputs["group"] for row in rows["scenes"]}
    assert len(rows["diptychs"]) == 2 * len(rows["scenes"])
    for row in rows["diptychs"]:
        inputs, parent = row.inputs, by_id[row.inputs["parent"]]
        assert inputs["subject"] == parent.inputs["subject"]
        assert inputs["scene_1"] != inputs["scene_2"]
        assert {inputs["scene_1"], inputs["scene_2"]} <= set(parent.result["scenes"])
        if inputs["other"]:
            assert groups[inputs["other"]] != inputs["group"]
    counts = [[row.inputs[name] for row in rows["diptychs"]] for name in ("layout", "template", "seed")]
    assert set(counts[0]) == {"left-right", "top-bottom"} and set(counts[1]) == {0, 1, 2}
    assert len(set(counts[2])) == len(counts[2])
    assert {tuple(row.inputs["panel"]) for row in rows["diptychs"]} == set(DiptychsConfig().panels)
    assert (
        0.4 < sum(row.inputs["other"] is not None for row in rows["diptychs"]) / len(rows["diptychs"]) < 0.6
    )


def test_prompts_and_captions_say_what_the_panels_show(rows):
    for row in rows["diptychs"]:
        inputs, result = row.inputs, row.result
        assert all(inputs[name] in result["prompt"] for name in ("subject", "scene_1", "scene_2"))
        first, second = ("left", "right") if inputs["layout"] == "left-right" else ("top", "bottom")
        assert result["prompt"].index(f" {first} ") < result["prompt"].index(f" {second} ")
        assert result["caption_1"] == f"{with_article(inputs['subject'])} {inputs['scene_1']}"
        both = with_article(inputs["subject"])
        if inputs["other"]:
            both += f" and {with_article(inputs['other'])}"
            assert inputs["other"] in result["prompt"]
        assert result["caption_2"] == f"{both} {inputs['scene_2']}"


@pytest.mark.slow
def test_a_second_run_elsewhere_is_the_same(rows, tmp_path):
    assert made(tmp_path, TEMPLATES) == rows


@pytest.mark.slow
def test_more_of_everything_leaves_what_is_there(rows, tmp_path):
    more = changed(TEMPLATES, "diptychs", per_subject=5)
    found = {row.id for row in made(tmp_path, more)["diptychs"]}
    assert {row.id for row in rows["diptychs"]} < found
    other_seed = {row.id for row in made(tmp_path, changed(TEMPLATES, "diptychs", seed=1))["diptychs"]}
    assert not other_seed & found


def test_a_subject_that_comes_to_the_run_changes_few_partners(rows):
    config = TEMPLATES.diptychs
    parents = rows["scenes"]

    def partners(ring_rows):
        entries = [(hash_number("ring", key(row.inputs["subject"])), row.inputs) for row in ring_rows]
        ring = sorted(entries, key=lambda entry: entry[0])
        return [
            inputs["other"] for row in parents[:-5] for inputs in diptychs.subject_diptychs(config, row, ring)
        ]

    without, with_five = partners(parents[:-5]), partners(parents)
    changes = sum(a != b for a, b in zip(without, with_five, strict=True))
    assert changes < len(without) // 20


@pytest.mark.slow
def test_asked_for_more_diptychs_than_there_are_pairs_of_scenes(tmp_path):
    config = changed(TEMPLATES, "scenes", per_subject=2)
    config = changed(changed(config, "diptychs", per_subject=50), "subjects", per_manner=1)
    found = made(tmp_path, config)
    assert len(found["diptychs"]) == 2 * len(found["scenes"])


def test_wordings_of_ones_own(tmp_path):
    prompt = "same {subject}: {first} {scene_1}, {second} with {a_other} {scene_2}"
    config = changed(TEMPLATES, "diptychs", prompts_two=(prompt,), caption_two="{subject}+{other} {scene}")
    given = {"scene_1": "at sea", "scene_2": "on ice", "layout": "left-right", "template": 0}
    result = one(diptychs, config, tmp_path, subject="cat", other="owl", **given)
    assert result["prompt"] == "same cat: left at sea, right with an owl on ice"
    assert (result["caption_1"], result["caption_2"]) == ("a cat at sea", "cat+owl on ice")


@pytest.mark.slow
def test_the_whole_text_half_by_an_endpoint(tmp_path):
    with serving(obliging) as server:
        config = changed(TEMPLATES, "taxonomy", groups=("people", "street"))
        config = dataclasses.replace(
            config,
            llm=ModelConfig(model="m", endpoint=server.url),
            subjects=SubjectsConfig(per_manner=2, manners=("realistic", "with text")),
            scenes=ScenesConfig(plain=0.5, per_subject=3),
        )
        found = made(tmp_path, config)
        asked = len(server.requests)
        assert made(tmp_path, config) == found
        assert len(server.requests) == asked == 24 + 24
    assert not [row for stage in found.values() for row in stage if row.failed]
    assert len(found["scenes"]) == 12 * 2  # both manners' answers are the same
    assert len(found["diptychs"]) == 2 * 24


@pytest.mark.parametrize(
    "noun, expected",
    [
        ("owl", "an owl"),
        ("red car with wings", "a red car with wings"),
        ("kettles made of glass", "kettles made of glass"),
        ("glass made of bees", "a glass made of bees"),
        ("polished sneakers", "polished sneakers"),
        ("red and gold sneakers", "red and gold sneakers"),
        ("white bread", "white bread"),
        ("unicorn", "a unicorn"),
        ("hourglass", "an hourglass"),
        ("SUV", "an SUV"),
        ("The Owl", "The Owl"),
        ("bus", "a bus"),
    ],
)
def test_articles(noun, expected):
    assert with_article(noun) == expected


def test_numbers_are_scattered_without_repetition():
    orders = [list(scattered(30, "key", number)) for number in range(20)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) > 15
    assert list(scattered(0, "key")) == [] and list(scattered(1, "key")) == [0]


def test_templates_take_turns_and_use_all_their_words():
    words = {"colour": ["red", "blue"], "size": ["big", "small", "tiny"]}
    templates = ("{colour} {size} {category}", "{category}")
    texts = list(fill_templates(templates, words, {"category": "car"}, "key"))
    assert texts[1] == "car" and len(texts) == 7 == len(set(texts))


@pytest.mark.parametrize(
    "template, message",
    [
        ("{colour} {thing}", "has the unknown field {thing}; known are category, colour"),
        ("{}", "has the unknown field {}"),
        ("{category.upper}", "has the unknown field {category.upper}"),
        ("{category!r}", "write fields alone"),
        ("{category:>90}", "write fields alone"),
        ("{category", "cannot be parsed: expected '}'"),
        ("category}", "cannot be parsed: Single '}'"),
        (" ", "a template is empty"),
    ],
)
def test_bad_templates_are_told(template, message):
    with pytest.raises(ToolError, match=f"subjects.templates: .*{message}|subjects.templates: {message}"):
        template_fields(template, ("colour", "category"), "subjects.templates")


@pytest.mark.parametrize(
    "stage, settings, message",
    [
        (subjects, {"per_manner": 0}, "subjects.per_manner must be 1 or more, got 0"),
        (subjects, {"max_words": 0}, "subjects.max_words must be 1"),
        (
            subjects,
            {"manners": ("funny",)},
            "unknown manner 'funny'; known are imaginative, realistic, with text",
        ),
        (subjects, {"templates": ("{colour} {thing}",)}, "the unknown field {thing}; known are category"),
        (subjects, {"backend": "model"}, "llm.model is empty"),
        (scenes, {"backend": "model"}, "llm.model is empty"),
        (scenes, {"per_subject": 1}, "scenes.per_subject must be 2 or more"),
        (scenes, {"plain": 1.5}, "scenes.plain must be between 0 and 1, got 1.5"),
        (scenes, {"max_tokens": 2}, "scenes.max_tokens must be 3"),
        (scenes, {"scenes": ("at sea",)}, "scenes.scenes: expected 2 or more .* 1 of 1 are usable"),
        (scenes, {"scenes": ("at sea", "on ice", "in " + "fog " * 80)}, "'too long': 1"),
        (scenes, {"plain_scenes": ("on grey", "On grey.")}, "scenes.plain_scenes: .*'duplicate': 1"),
    ],
)
def test_settings_that_cannot_be_used_are_told_before_work(stage, settings, message):
    with pytest.raises(ToolError, match=message):
        stage.STAGE.check_settings(changed(TEMPLATES, stage.STAGE.name, **settings))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"per_subject": 0}, "diptychs.per_subject must be 1"),
        ({"two": -0.1}, "diptychs.two must be between 0 and 1, got -0.1"),
        ({"layouts": ("diagonal",)}, "known are left-right, top-bottom, got .*diagonal"),
        ({"layouts": ()}, "known are left-right, top-bottom"),
        ({"panels": ()}, "diptychs.panels is empty"),
        ({"panels": ((500, 512),)}, r"multiples of 16 pixels, got \(500, 512\)"),
        ({"prompts": ("{subject} and {other}",)}, "the unknown field {other}; known are a_subject"),
        ({"prompts_two": ("{subject} {scene_1}",)}, "must contain {other}"),
        ({"caption": "{subject} {scene_2}"}, "diptychs.caption: .*the unknown field {scene_2}"),
    ],
)
def test_diptychs_that_cannot_be_made_are_told_before_work(settings, message):
    with pytest.raises(ToolError, match=message):
        diptychs.STAGE.check_settings(changed(TEMPLATES, "diptychs", **settings))


@pytest.mark.slow
def test_two_subjects_take_two_groups(tmp_path):
    config = changed(TEMPLATES, "taxonomy", groups=("music",))
    with pytest.raises(ToolError, match="needs subjects of two groups; the run has only 'music'"):
        made(tmp_path, config)
    found = made(tmp_path, changed(config, "diptychs", two=0.0))
    assert {row.inputs["other"] for row in found["diptychs"]} == {None}
