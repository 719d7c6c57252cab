"""Parts of which encoders, fusions and decoders are built: attention, MLP, norm, positions, block and stack."""
