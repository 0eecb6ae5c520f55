"""Cache: the raw logits of one teacher on disk: written, sealed, checked and read. Nothing here trains students.

Read capture.py first, then writer.py and reader.py; docs/cache-format.md has the format.
"""
