"""Sources: the files that people have, read as chunks of rows, one file a kind. No shuffling, no decoding, no splits.

Read source.py first, then table.py, which finds the source that a text of params.yaml names.
"""
