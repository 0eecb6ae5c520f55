"""Stats: metrics of logits, and intervals for differences. Needs numpy, and scipy for Student's t; no files, no nets.

Read metrics.py first.
"""
