"""Kinds of knowledge: what a cache keeps of a teacher, and the arrays that hold it. They need numpy alone.

`knowledge` says what all of it is; `logits` and `hidden` are what gives logits, `features` what lies beside either.
"""
