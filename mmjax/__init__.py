"""Scaled-up multimodal transformers in JAX/Flax: encoders -> fusion -> decoders -> objectives."""

__version__ = '0.1.0'
