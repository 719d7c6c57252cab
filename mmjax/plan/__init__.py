"""Compile ahead of time for hardware that is not here: does a step fit, what does it compute, what does it send."""
