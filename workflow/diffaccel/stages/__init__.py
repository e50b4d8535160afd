"""The stages of the workflow, one file each: typed JSON in, typed JSON out, each runs alone.

`baseline`, `verify` with `serving`, and `speed` measure. `script` is a generated script, and
`outcome` decides what is said of one that was verified. `collect` gathers what all of them found
into tables, and `database` into the two stores of users. `records` are what comes out.
"""
