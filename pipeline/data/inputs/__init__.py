"""Inputs: what a model sees of a row, one kind a file. Each kind checks, stores and reads its rows. Read kinds.py first."""
