"""The pipeline under test: generating, scoring and timing.

`bench` opens a pipeline with its prompts and metrics, and `measure` is the only place that times
and compares images; `records` are what comes out. `pairs`, `timing_error` and `sequential` say how
many calls and prompts are enough, `keys` what a measurement depends on, `failures` what a crash
means, and `budget` when time is up. `usage` measures memory and energy, `flops` counts operations,
`baselines` and `gallery` keep images, and `selftest` times the baseline pipeline beside itself.
"""
