"""Models: nets, how they are built, kept and run, one by one or as an ensemble. How they are trained is not said here.

Read zoo/ and build.py first, then predict.py, the only inference loop.
"""
