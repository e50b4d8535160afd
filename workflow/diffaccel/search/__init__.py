"""The search: which candidates of a cell are measured, and what is then chosen.

- The order: `decide` searches the cells of a configuration side by side, `answers` answers its
  tasks, and `fewer_steps` compares what was chosen with fewer steps. `loop` does what cells ask
  for, and `measuring` measures it on the device.
- One cell: `cell` has its questions and what must be measured next (`requests`). `history` has what
  was measured of it, `predictions` what that says of its candidates (`estimates`), and `timings`
  what was timed of the whole configuration.
- The models: `speeds` (from `step_kinds`) and `losses` predict, both by Gaussian processes
  (`gaussian`). `acquisition` says what a measurement is expected to gain, and `strategies` propose
  candidates, one file each.
- What comes out: `pareto` reads the answers off, `records` are written, and `found` keeps whatever
  was ever found.
"""
