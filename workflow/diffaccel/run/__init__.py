"""Running the workflow: starting Snakemake, following it, and keeping the store whole.

`start` starts a run, `invocation` finds its flags, `outlook` says before what it will take,
and `follow` follows it to its end. `reader` reads how far a run is, with `files`, `cells` and
`time_left`, and makes the records of `progress`. `shown` shows these: as a `view` that is redrawn,
or as `events`, a line each, both with the words of `texts`. `stores` holds a store and mends it,
`listing` lists what was measured, and `merging` adds the results of other machines. `slurm` ends
jobs in the queue.
"""
