"""Steps of view policies: one file a kind of input. table.py names them all; read it first, then image.py."""
