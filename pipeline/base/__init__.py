"""Base: what any program of this kind needs. Nothing here knows of distillation, of click or of DVC.

Read errors.py first, then files.py and spec.py.
"""
