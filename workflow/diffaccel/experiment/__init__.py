"""What is asked: the configuration, and what it unfolds to.

`config` reads and checks the YAML: `schema` has its keys, `mistakes` says what is wrong with it
(`scheduling` of its schedulers, `metrics` of its metrics, `limits` of their limits, `wrong_tasks`
of what models are used for), and `resolve` what its entries stand for. `plan` unfolds it into
configurations, cells, tasks and the jobs of the rules; `options` are its parts as records. `grid`
names configurations and cells, `prompts` reads prompts and `inputs` the images that they come with,
`tasks` reads and writes requests in words, `own_tasks` reads a user's list of them, and `asked`
finds the scripts to judge.
"""
