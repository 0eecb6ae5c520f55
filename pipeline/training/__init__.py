"""Training: teachers and students. What they learn from, by which objective, and the only training loop.

Read distill.py first, then lesson.py and fit.py.
"""
