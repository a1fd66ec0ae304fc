"""The toybox world: named subjects in named scenes, procedurally composed, with captions.

A folder of cut-out subjects with a manifest (by default the shipped one) and a numpy Generator give samples
in memory (`pair`, `diptych`, `text_image`); `python -m uno_jax.toybox` writes them to disk in the project's
JSON form. Samples need only numpy and Pillow.
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
