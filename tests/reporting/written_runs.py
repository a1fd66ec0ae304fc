"""Runs to report on, as their commands write them."""

import json

import numpy as np
from PIL import Image

from uno_jax.evaluation.dreambench.scores import summarise_rows
from uno_jax.evaluation.lists.scores import summarise_kinds
from uno_jax.evaluation.toybox.page import TITLES, picture_name

SCORES = ("dino", "clip_i", "clip_t", "dino_worst", "clip_i_worst", "copied_border", "copied_layout")
SUBJECTS = ("cat", "can", "dog")
PROMPTS = {"scene": "a {} in the <snow> & rain", "property": "a red {}"}


def picture(path, *seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (3, 3, 3), np.uint8)
    Image.fromarray(noise).resize(size).save(path)


def write_dreambench(run, photos, dino, pairs=False):
    """Two prompts for each of three subjects (or pairs); `dino` has a score for each picture."""
    rows, listed = [], []
    for index, value in enumerate(dino):
        subject, category = SUBJECTS[index // 2], list(PROMPTS)[index % 2]
        names = [subject, SUBJECTS[(index // 2 + 1) % 3]] if pairs else [subject]
        scores = {"dino": value, "clip_i": 0.8, "clip_t": 0.3, "copied_border": value > 0.85}
        prompt = PROMPTS[category].format(subject)
        rows.append({"picture": f"{index}_0.png", "prompt": prompt, "subjects": names, "category": category})
        rows[-1] |= scores | {"copied_layout": None}
        listed.append({"prompt": prompt, "image_paths": [str(photos / name / "00.jpg") for name in names]})
        picture(run / f"{index}_0.png", index)
    record = {"suite": "dreambench-multi" if pairs else "dreambench-single", "prompts": len(rows)}
    record |= {
        "encoders": {"dino": "1", "clip": "2"},
        "steps": 25,
        "scores": summarise_rows(rows, SCORES),
        "rows": rows,
    }
    (run / "prompts.json").write_text(json.dumps(listed))
    (run / "scores.json").write_text(json.dumps(record))
    return run


def write_listed(run, photos, judged=()):
    """Two entries of one kind and one of another; `judged` has the judge's overall score of each."""
    kinds = ("single_object", "scene_object", "scene_object")
    rows = [
        {"picture": f"{index}_0.png", "prompt": f"mug {index}", "subjects": ["reference 1"]}
        | {"category": kind, "key": str(index), "dino": 0.5 + 0.1 * index}
        for index, kind in enumerate(kinds)
    ]
    for index in range(3):
        picture(run / f"{index}_0.png", index)
    listed = [{"prompt": row["prompt"], "image_paths": [str(photos / "cat/00.jpg")]} for row in rows]
    (run / "prompts.json").write_text(json.dumps(listed))
    record = {"suite": "list", "resolution": "704x704", "scores": summarise_kinds(rows, ("dino",))}
    (run / "scores.json").write_text(json.dumps(record | {"rows": rows}))
    if judged:
        groups = {"single_object": judged[0], "scene_object": float(np.mean(judged[1:]))}
        score = {"mean": float(np.mean(list(groups.values()))), "groups": groups}
        own = [row | {"score": each} for row, each in zip(rows, judged, strict=True)]
        (run / "judge.json").write_text(json.dumps({"scores": {"score": score}, "rows": own}))
    return run


def write_toybox(run, count, kinds=(("single", 1), ("two", 2))):
    record = {"suite": "toybox", "seed": 5, "efficientnet_lite0": {}, "rows": []}
    for kind, references in kinds:
        scores = {"count": count, "top1": 0.5, "cosine": 0.6, "scene_accuracy": 0.25}
        placed = {"placed": 0.75} if kind == "placed" else {}
        record["efficientnet_lite0"][kind] = dict.fromkeys(TITLES, scores | placed)
        for index in range(count):
            for number, name in enumerate((*TITLES, *(f"ref{n + 1}" for n in range(references)))):
                picture(run / picture_name(kind, index, name), index, number, references)
            verdict = {"top1": index > 0, "cosine": 0.1 * index, "scene": "beach", "scene_right": False}
            record["rows"].append(
                {"kind": kind, "index": index, "prompt": f"{kind} mug {index}", "subjects": ["mug"]}
                | dict.fromkeys(TITLES, verdict | {"exchanged": None} | dict.fromkeys(placed, False))
            )
    (run / "scores.json").write_text(json.dumps(record))
    return run


def write_training(run, count=60):
    run.mkdir(parents=True)
    lines = [
        {
            "step": 10 * n,
            "loss": None if n == 5 else 2 / n,
            "skipped": 1.0,
            "bad_records": 0,
            "records": ["x"],
        }
        for n in range(1, count + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run
