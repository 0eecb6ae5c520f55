"""Results: what was measured, chosen and paid, and the page that shows it. Nothing is trained here.

Read evaluate.py first, then report.py.
"""
