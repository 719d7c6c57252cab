"""Compiles ahead of time for hardware that is not there, and reads the compiled program.

What reads it are pure functions of its text, `compiled.as_text()`: `hlo.parse`, then `rollup.rolled_up`,
`collectives.collectives`, `links.seconds`; `kernels` for the kernels that the compiler does not count. Nothing here is
a measured time.
"""
