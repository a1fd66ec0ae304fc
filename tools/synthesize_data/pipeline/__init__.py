"""Runs, stages and engines: how rows are made, kept and found again."""
