"""One run: state, step, loop, checkpoints, metrics, report."""
