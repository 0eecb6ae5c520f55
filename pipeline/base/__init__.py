"""Base: what any such program needs. Nothing here knows about distillation, click or DVC.

Read errors.py first, then files.py and spec.py.
"""
