"""Configurations that come with the program: `--config NAME`, or a file of one's own made after them."""
