"""Cases -> pictures by a model, in batches, with the references or without."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from uno_jax.families.model import Model
from uno_jax.sampling.generate import batches, sample_batch
from uno_jax.sampling.request import Request, prepare_refs
from uno_jax.toybox import Sample
from uno_jax.weights.sample_mesh import mesh_of


def draw_cases(
    model: Model, cases: Sequence[Sample], settings: Any, seed: int, batch_size: int, references: bool
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """One picture a case, of the size of its composite; case i starts from the noise of `seed` + i."""
    requests = [_request(model.config, case, seed + i, references) for i, case in enumerate(cases)]
    made: dict[int, np.ndarray] = {}
    what = "with references" if references else "without references"
    with jax.set_mesh(mesh_of(model)), tqdm(total=len(cases), desc=what, dynamic_ncols=True) as bar:
        for batch in batches(range(len(cases)), lambda i: len(requests[i].refs), batch_size):
            pictures = sample_batch(model, [requests[i] for i in batch], settings)
            made |= zip(batch, map(np.asarray, pictures), strict=True)
            bar.update(len(batch))
    return [made[i] for i in range(len(cases))]


def _request(config: Any, case: Sample, seed: int, references: bool) -> Request:
    height, width = case.target.shape[:2]
    shown = [Image.fromarray(each) for each in case.references] if references else []
    refs = prepare_refs(config, shown, None, case.subjects[: len(shown)])
    return Request(case.prompt, refs, width, height, seed)
