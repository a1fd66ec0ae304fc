"""The mapping tables, one file per network."""
