"""What comes out of a run: lists, shards, a datasheet and a report."""
