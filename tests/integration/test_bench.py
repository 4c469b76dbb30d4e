"""The benches run: with small sizes, and without a word about how long anything takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bench import convert, mapping, report

ROOT = Path(__file__).parents[2]


BENCHES = [
    "startup",
    "mapping",
    "convert",
    "memory",
    "headers",
    "hostile",
    "backfill",
    "objects",
    "cluster",
    "store",
    "sealed",
    "receive",
    "web",
]
OF_SERVERS = [
    pytest.param("deliver", marks=pytest.mark.needs("hapi")),
    pytest.param("nodes", marks=pytest.mark.needs("postgres")),
]


@pytest.mark.needs("bench")
@pytest.mark.parametrize("bench", [*BENCHES, *OF_SERVERS])
def test_a_quick_run_gives_a_table_for_machines(bench: str) -> None:
    command = [sys.executable, "-m", f"bench.{bench}", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = orjson.loads(done.stdout)
    assert found["machine"]["python"]
    assert found["rows"]
    assert all(row.keys() == found["rows"][0].keys() for row in found["rows"])
    if bench == "memory":
        assert [row["instances"] for row in found["rows"]] == ["0", "200", "300", "all delivered"]
        assert found["rows"][-1]["studies delivered"] == 3


def test_people_get_a_table_with_what_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    goals = [report.Goal("growth", 6.0, "<= 5.5", False)]
    report.show(report.Result("A study", [{"step": "mapping", "ms": 1.25}], goals, ["median of 3"]), as_json=False)
    shown = capsys.readouterr().out
    assert "mapping" in shown and "1.25" in shown
    assert "growth: 6, asked <= 5.5: NOT reached" in shown
    assert "median of 3" in shown


def test_mapping_measures_both_sizes() -> None:
    result = mapping.measure((5, 10), rounds=1)
    assert [row["step"] for row in result.rows] == [
        "read from the store",
        "map and serialise R4",
        "map and serialise R5",
    ]
    assert len(result.goals) == 4


def test_convert_goes_on_without_the_peer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a-file-stands-here"))
    (tmp_path / "a-file-stands-here").write_text("")
    result = convert.measure(files=2, runs=1, with_peer=True)
    assert [row["what"] for row in result.rows] == ["this bridge"]
    assert not result.goals
    assert any("left out" in remark for remark in result.remarks)
