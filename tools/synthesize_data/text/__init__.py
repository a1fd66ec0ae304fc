"""Prompts, templates and limits of short texts."""
