"""Encoders, Z_m = f_m(X_m): one raw modality to tokens."""
