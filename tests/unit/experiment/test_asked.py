"""What scripts of others were asked for."""

from __future__ import annotations

import json
from pathlib import Path

from diffaccel.experiment.asked import given

START = (
    "Generate a mini-SD1.5 pipeline using the DDIM sampler with 8 steps, accelerated by DeepCache"
)


def test_limits_of_other_metrics_are_not_judged(tmp_path: Path) -> None:
    sentences = [f"{START} with 2x speedup", f"{START} with 2x speedup and PSNR not below 30"]
    rows = [
        {"prompt_id": str(number), "prompt_context": sentence}
        for number, sentence in enumerate(sentences)
    ]
    (tmp_path / "prompts.json").write_text(json.dumps(rows))
    for row in rows:
        (tmp_path / f"{row['prompt_id']}.py").touch()
    found = given(tmp_path / "prompts.json", tmp_path, ["mini-SD1.5"], {})
    assert [asked.id for own in found.configurations.values() for asked in own] == ["0"]
    ((asked, reason),) = found.unparsed
    assert asked.id == "1" and "psnr at least 30" in reason and "only the loss is" in reason
