"""Scoring of pictures of the toybox world, defined in docs/evaluation.md.

What is asked for (`cases`) and drawn (`drawing`); pictures' features (`scorer`), subjects (`ranking`) and
scenes (`scenes`), all together (`scores`); the page that shows it (`page`).
"""
