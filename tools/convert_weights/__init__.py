"""Weights of other programs to and from the native format, by mapping tables (`__main__` is the command)."""
