"""Damaged files for every reader: none may end in anything but the reader's own error."""
