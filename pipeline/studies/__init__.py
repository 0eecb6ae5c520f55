"""Studies: many students at once, trained together and measured.

Read sweep.py first.
"""
