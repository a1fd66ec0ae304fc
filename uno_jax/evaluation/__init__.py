"""Evaluation suites, whose scores docs/evaluation.md defines: the toybox world (`toybox`) and DreamBench
(`dreambench`), with the encoders that its features come from (`encoders`).
"""
