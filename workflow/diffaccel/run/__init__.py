"""Running the workflow: starting Snakemake, following it, and keeping the store whole.

`start` starts a run, `invocation` finds its flags, `outlook` says before what it will take,
`follow` shows it with `progress` and `view`, `stores` checks and mends, `merging` adds the results
of other machines, and `slurm` ends jobs in the queue.
"""
