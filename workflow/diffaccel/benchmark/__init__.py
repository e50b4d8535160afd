"""For those who test generated acceleration code: prompts, ground truth and the judge.

`prompt_set` makes the five categories of prompts, `prompt_files` writes them, `ground_truth`
writes the scripts that answer them, and `judge` runs the scripts of others in a sandbox.
"""
