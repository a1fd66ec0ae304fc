"""What the tools share: rows of work done once, batches, devices, choices by hash."""
