"""Built-in nets. A net takes the inputs of a batch, scales or encodes them itself, and returns logits (B, classes).

Read table.py first, which names them all, then layers.py and mlp.py.
"""
