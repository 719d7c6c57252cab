"""Evaluators: pure functions of predictions and targets."""
