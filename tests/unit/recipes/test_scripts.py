"""Which scripts are there."""

from __future__ import annotations

from pathlib import Path

from diffaccel.recipes.scripts import keep_only
from diffaccel.report.table import failures


def test_a_script_that_is_removed_is_no_job_that_failed(tmp_path: Path) -> None:
    """Its log goes with it: of a job that failed there is a log and nothing that it made."""
    for folder, suffixes in (("code", ["py"]), ("logs/code", ["log", "json"])):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("met", "not-met"):
            for suffix in suffixes:
                (tmp_path / folder / f"{name}.{suffix}").touch()
    (tmp_path / "logs/code/failed.log").write_text("why\n")
    keep_only(tmp_path / "code", ["met"])
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["met.py"]
    assert [(path.stem, line) for path, line in failures(tmp_path)] == [("failed", "why")]
