"""This machine: its devices, who uses them, and the processes that measure.

`devices` gives a job a GPU or cores of its own, `gpus` and `threads` say what there is, and
`locks` keep jobs apart. `watch` runs what may crash or hang in a guarded process, `stopping`
passes signals on, and `jobs` notes what each job does.
"""
