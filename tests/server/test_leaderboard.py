"""The local leaderboard's ranks and its file."""

import json
import subprocess
import sys
from pathlib import Path

from submission.runtime.paths import PROJECT
from submission.server.leaderboard import append, table


def row_of(tag: str, scores: list[float], **data: object) -> dict[str, object]:
    names = ["factor_vae", "dci", "sap", "irs", "mig"]
    key = {
        "name": "mpi3d_real",
        "stand_in": False,
        "factor_sizes": [6, 6, 2, 3, 3, 40, 40],
        "counts": "official",
    }
    return {
        "tag": tag,
        "commit": tag * 20,
        "status": "ok",
        "reason": "",
        "data": key | data,
        "scores": dict(zip(names, scores, strict=True)),
    }


def test_ranks_are_per_metric_and_averaged(tmp_path: Path) -> None:
    board = tmp_path / "board.json"
    append(board, row_of("a", [1.0, 0.1, 0.1, 0.1, 0.1]))
    append(board, row_of("b", [0.995, 0.9, 0.3, 0.6, 0.1]))
    append(board, row_of("c", [1.0, 1.0, 1.0, 1.0, 1.0], stand_in=True))
    rows = append(board, row_of("d", [1.0, 1.0, 1.0, 1.0, 1.0], counts="quick"))
    lines = {
        line.split()[0]: line.split()
        for line in table(rows, rows[0]["data"]).splitlines()
        if line.endswith(("1", "2", "3", "0"))
    }
    assert set(lines) == {"a", "b", "paper,"}, "neither stand-ins nor quick counts among them"
    assert lines["a"][3::2][:5] == ["(1)", "(3)", "(3)", "(3)", "(2)"]
    assert lines["a"][-1] == "2.40"
    assert lines["b"][-1] == "1.40", "ranks 2 1 1 1 2; equal scores share the better rank"
    assert lines["paper,"][-1] == "2.00", "3 2 2 2 1"
    assert "arXiv" not in table(rows, rows[2]["data"])


def test_a_tag_without_a_score_is_last_in_that_metric(tmp_path: Path) -> None:
    board = tmp_path / "board.json"
    part = row_of("part", [1.0, 1.0, 1.0, 0.0, 1.0]) | {"reason": "IRS: it gives nan"}
    del part["scores"]["irs"]  # type: ignore[attr-defined]
    append(board, part)
    rows = append(board, row_of("whole", [0.9, 0.9, 0.9, 0.0, 0.9]))
    shown = table(rows, rows[0]["data"])
    line = next(line.split() for line in shown.splitlines() if line.startswith("part"))
    assert line[8:10] == ["-", "(3)"], "behind the paper's and the other tag's"
    assert line[-1] == "1.40"
    assert f"Scored in part:\n  part {'part' * 2}pa: IRS: it gives nan" in shown


def test_rows_added_at_the_same_moment_are_all_kept(tmp_path: Path) -> None:
    board = tmp_path / "board.json"
    script = """
import sys
from pathlib import Path
from submission.server.leaderboard import append
for number in range(20):
    row = {"tag": f"{sys.argv[2]}-{number}", "commit": "", "status": "ok", "data": {}}
    append(Path(sys.argv[1]), row)
"""
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(board), who], cwd=PROJECT)
        for who in ("a", "b")
    ]
    assert [process.wait() for process in both] == [0, 0]
    tags = {row["tag"] for row in json.loads(board.read_text())}
    assert tags == {f"{who}-{number}" for who in ("a", "b") for number in range(20)}
