"""Runs on disk -> one page with their tables, plots and pictures (`uno-report`)."""
