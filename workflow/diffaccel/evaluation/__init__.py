"""The pipeline under test: generating, scoring and timing.

Measuring: `bench` opens a pipeline with its prompts and metrics, and `calls` calls it. `candidates`
evaluates candidates, `timing` is the only place that times them, and `baseline` measures the
baseline pipeline. `scores` says what images and their scores mean, and `limits` whether a candidate
keeps several limits. `selftest` times the baseline pipeline beside itself.

How much is enough: `pairs` and `timing_error` for timed calls, `sequential` for prompts, and
`budget` for the time that is left.

What comes out: `records`, and `keys` for what each depends on. `kept_baselines` and `gallery` keep
images, and `worst` says which of them the metrics call bad. `failures` says what a crash means,
`usage` measures memory and energy, and `flops` counts operations.
"""
