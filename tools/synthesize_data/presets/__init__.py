"""Configurations that come with the program: `--config NAME`. A user's own file has the same form."""
