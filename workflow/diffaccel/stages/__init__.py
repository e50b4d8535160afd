"""The stages of the workflow, one file each: typed JSON in, typed JSON out, each runs alone."""
