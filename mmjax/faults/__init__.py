"""What may happen to a run, done to it on purpose: each module is one bar, `scripts/faults/NAME`, with its result in
`experiments/faults/NAME.json`.
"""
