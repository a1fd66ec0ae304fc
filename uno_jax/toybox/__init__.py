"""The toybox world: named subjects in named scenes, procedurally composed, with captions.

In: a folder of cut-out subjects with a manifest (the shipped one by default) and a numpy Generator. Out:
samples in memory (`pair`, `diptych`, `text_image`), or on disk in the project's JSON form
(`python -m uno_jax.toybox`).
numpy and Pillow only.
"""

from uno_jax.toybox.captions import noun_phrase
from uno_jax.toybox.compose import Composite, Placement, compose
from uno_jax.toybox.samples import Sample, diptych, pair, text_image
from uno_jax.toybox.scenes import SCENES, Scene, draw_scene
from uno_jax.toybox.subjects import Subject, SubjectError, load_subjects

__all__ = [
    "SCENES",
    "Composite",
    "Placement",
    "Sample",
    "Scene",
    "Subject",
    "SubjectError",
    "compose",
    "diptych",
    "draw_scene",
    "load_subjects",
    "noun_phrase",
    "pair",
    "text_image",
]
