"""The shipped weights themselves: a subject they never saw is drawn as its reference shows it, and inpainting
keeps what its mask does.
"""

import numpy as np
import pytest
from PIL import Image

from uno_jax.families.latents import decode_image, encode_image
from uno_jax.sampling.generate import generate
from uno_jax.support.images import to_array, to_image
from uno_jax.toybox import load_subjects, pair
from uno_jax.weights.load import load_model

COUNT, ALIKE = 2, 24


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
        drawn = generate(model, [case.prompt for case in cases], refs, steps=6, batch_size=COUNT)
        gap = np.stack([np.asarray(picture, float) for picture in drawn]) - targets
        errors.append((gap**2).mean(-1)[subject].mean())
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.slow
def test_inpainting_keeps_what_is_outside_the_mask():
    """Up to what the autoencoder alone changes; its decoder looks a little over the seam, and its norms at
    all of the picture.
    """
    case = pair(np.random.default_rng(5), load_subjects(split="val"), 128, alike="place")
    start, mask = Image.fromarray(case.target), Image.new("L", (128, 128))
    mask.paste("white", (64, 0, 128, 128))
    model = load_model("small", dtype="float32")
    options = {"start_image": start, "mask": mask, "strength": 1.0, "steps": 4}
    heard = []
    (drawn,) = generate(model, case.prompt, watch=heard.append, **options)
    (passed,) = np.asarray(decode_image(model, encode_image(model, to_array(start)[None])))
    found, through, given = (np.asarray(each, float) for each in (drawn, to_image(passed), start))
    kept, seam = np.s_[:, :40], np.s_[:, 64:]
    own = np.abs(through - given)[kept].mean()
    assert np.abs(found - through)[kept].mean() < own
    assert np.abs(found - given)[seam].mean() > 5 * own
    phases = list(dict.fromkeys(each.phase for each in heard))
    assert phases == ["encoding", "compiling", "drawing", "decoding"] and heard[-2].step == 4

    def stop(progress):
        if progress.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate(model, case.prompt, watch=stop, **options)
    with pytest.raises(ValueError, match="strength says how far a start image is drawn over"):
        generate(model, case.prompt, strength=0.5)
    with pytest.raises(ValueError, match="the mask has 64x64 pixels, its start image 128x128"):
        generate(model, case.prompt, start_image=start, mask=mask.resize((64, 64)))
