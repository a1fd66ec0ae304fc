"""Training data: lists of pairs, or cached encodings of them -> Records -> Batches. The command `uno-data`
checks a list and packs it.
"""
