"""Fusion designs, Y = g(Z): the tokens of all modalities read one another. One file a family."""
