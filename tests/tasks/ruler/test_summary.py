"""RULER's own summary against rows of the published table."""

import pytest

from tasks.ruler import Ruler
from tasks.ruler.catalog import TASKS
from tasks.ruler.summary import mean_by_length, summarise

LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
# NVIDIA/RULER README: scores by length, Avg., wAvg. (inc), wAvg. (dec), effective length
PUBLISHED = [
    ((95.5, 93.8, 91.6, 87.4, 84.7, 77.0), 88.3, 85.4, 91.3, 32768),  # Llama-3.1-8B-Instruct
    ((96.5, 95.8, 95.4, 94.8, 88.4, 66.6), 89.6, 85.5, 93.7, 65536),  # Llama-3.1-70B-Instruct
    ((94.7, 92.8, 92.1, 89.9, 86.7, 83.1), 89.9, 88.0, 91.7, 65536),  # GLM4-9B-chat-1M
    ((93.6, 91.2, 87.2, 75.4, 49.0, 13.8), 68.4, 55.6, 81.2, 16384),  # Mistral-7B-Instruct-v0.2
]


@pytest.mark.parametrize(("scores", "average", "rising", "falling", "effective"), PUBLISHED)
def test_published_rows(scores, average, rising, falling, effective):
    got = summarise(dict(zip(LENGTHS, scores, strict=True)))
    assert got.average == pytest.approx(average, abs=0.06)
    assert got.weighted_increasing == pytest.approx(rising, abs=0.06)
    assert got.weighted_decreasing == pytest.approx(falling, abs=0.06)
    assert got.effective_length == effective


def test_no_length_reaches_the_threshold():
    assert summarise({4096: 85.5}).effective_length is None


def test_the_mean_over_tasks_is_unweighted_and_says_if_tasks_are_missing():
    scores = {(task, 512): 50.0 for task in TASKS} | {("vt", 512): 100.0}
    assert mean_by_length(scores) == ({512: pytest.approx((12 * 50 + 100) / 13)}, True)
    assert mean_by_length({("vt", 512): 1.0}) == ({512: 1.0}, False)


def test_the_table_is_written_from_sample_rows(tmp_path):
    rows = [
        {"id": f"{n}-{i}", "meta": {"task": "vt", "length": n}, "metrics": {"score": s}}
        for n, group in ((512, (1.0, 0.8)), (1024, (0.5,)))
        for i, s in enumerate(group)
    ]
    (path,) = Ruler().figures(rows, tmp_path)
    assert path.read_text().splitlines()[:3] == ["task,512,1024", "vt,90.00,50.00", "mean,90.00,50.00"]
    assert "effective length,512" in path.read_text() and "all 13 tasks,no" in path.read_text()
    assert Ruler().figures([], tmp_path) == []
