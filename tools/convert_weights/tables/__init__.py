"""One file per network: its mapping table."""
