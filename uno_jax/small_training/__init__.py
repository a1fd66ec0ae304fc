"""The small model's training on the toy world made on the device: its parts, their losses and their loop."""
