"""Stats: what is measured of logits, and how sure a difference is. numpy, and scipy for Student's t; no files, no nets.

Read metrics.py first.
"""
