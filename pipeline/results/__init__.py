"""Results: metrics, the choice of the best setting, costs, and the report that shows them. Nothing is trained here.

Read evaluate.py first, then report.py.
"""
