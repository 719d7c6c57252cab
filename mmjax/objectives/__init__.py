"""Objectives: pure losses over outputs and batch."""
