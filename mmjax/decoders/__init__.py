"""Decoders, O = h(Y): fused tokens to the output of a task or modality."""
