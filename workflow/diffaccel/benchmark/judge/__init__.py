"""The judge of others' scripts: each is run in a sandbox, in turn with the baseline pipeline.

`judging` judges the scripts of a `judge_configuration` in three stages: `static` reads the script
with the help of `syntax`, and `trials` run it. These keep what was `generated`, and the `baseline`
pipeline in a process of its own. `sandbox` runs a script: `mounts` and `links` are what it sees,
`limits` what it may take, `seccomp` which system calls it may make, `processes` what it takes, and
`protocol` how it is asked. `inside` and `witness` are the files that run in the sandbox. `records`
are what comes out, and `table` counts them.
"""
