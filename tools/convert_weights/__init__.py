"""Weights of other programs to and from the native format, by mapping tables (`uno-convert`)."""
