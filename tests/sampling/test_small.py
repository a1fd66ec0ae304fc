"""The shipped weights themselves: a subject they never saw is drawn as its reference shows it."""

import numpy as np
import pytest
from PIL import Image

from uno_jax.sampling.generate import generate
from uno_jax.toybox import load_subjects, pair
from uno_jax.weights.load import load_model

COUNT, ALIKE = 4, 24


@pytest.mark.slow
def test_a_held_out_subject_is_drawn_from_its_reference():
    """References show it where the target does: where their pixels are alike is the subject, and there the
    reference must halve the squared error of the same noise and prompt.
    """
    subjects = load_subjects(split="val")
    cases = [pair(np.random.default_rng([5, i]), subjects, 128, alike="place") for i in range(COUNT)]
    targets, shown = (
        np.stack(each).astype(float)
        for each in zip(*((case.target, case.references[0]) for case in cases), strict=True)
    )
    subject = np.abs(targets - shown).mean(-1) < ALIKE
    model, errors = load_model("small", dtype="float32"), []
    for refs in ([[Image.fromarray(case.references[0])] for case in cases], None):
        drawn = generate(model, [case.prompt for case in cases], refs, steps=10, batch_size=COUNT)
        gap = np.stack([np.asarray(picture, float) for picture in drawn]) - targets
        errors.append((gap**2).mean(-1)[subject].mean())
    assert errors[0] < 0.5 * errors[1]
