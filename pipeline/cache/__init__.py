"""Cache: the raw logits of one teacher on disk: written, sealed, checked and read. What is learned from them is not said here.

Read capture.py first, then writer.py and reader.py; docs/cache-format.md has the format.
"""
