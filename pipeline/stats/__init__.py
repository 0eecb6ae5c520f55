"""Stats: what is measured of logits, and how sure a difference is. numpy alone; no files, no nets.

Read metrics.py first.
"""
