"""Data: from sources of labelled images to splits in one fixed order, and their views. No logits, no nets.

Read splits.py first, then views.py; ingest.py is the job that writes splits.
"""
