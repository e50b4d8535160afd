"""How often the sequential test of a loss is wrong, by the command that counts it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import verdicts

TABLE = Path(__file__).parent / "data" / "mini-SD1.5_DDIM_20.parquet"


def test_at_the_limit_itself_it_is_as_often_wrong_as_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(TABLE, tmp_path)
    verdicts.main([str(tmp_path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if " to " in line]
    assert len(lines) == len(verdicts.PLANS)
    for line in lines:
        _, _, _, below, above, clear, *_ = line.replace("%", "").split()
        # 5% in all are meant; of so few candidates it may be a little more.
        assert 0 < float(below) + float(above) < 7
        assert float(clear) > 30


def test_where_nothing_was_evaluated_nothing_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        verdicts.main([str(tmp_path)])
    assert end.value.code == 2
    assert f"{tmp_path} has neither tables nor evaluations" in capsys.readouterr().err
