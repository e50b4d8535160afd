"""What the job of each rule is told."""

from __future__ import annotations

from diffaccel.experiment.config import load
from diffaccel.experiment.plan import Experiment


def test_a_model_is_the_same_whatever_it_is_sampled_by() -> None:
    """All that is measured is made from the model's record: a step count more would measure all of
    a model again."""
    first = Experiment(load({"steps": [20]})).model_job("mini-SD1.5")
    more = {"steps": [20, 50], "schedulers": ["DDIM", "Euler a"]}
    assert Experiment(load(more)).model_job("mini-SD1.5") == first
