"""Every token but the first of a document is predicted once, whatever window, stride and start token."""

from __future__ import annotations

import pytest

from tasks.perplexity.windows import Window, bucket_edges, windows


@pytest.mark.parametrize("n_bos", [0, 1, 2])
@pytest.mark.parametrize("n_tokens", [2, 3, 7, 8, 9, 31, 64, 100])
def test_every_token_but_the_first_is_predicted_exactly_once(n_tokens: int, n_bos: int) -> None:
    for window in (4, 8, 32):
        for stride in range(1, window + 1):
            found = list(windows(n_tokens, window, stride, n_bos))
            assert [t for w in found for t in range(w.first, w.end)] == list(range(1, n_tokens))
            assert all(w.end - w.begin + n_bos <= window for w in found)
            assert all(w.first > w.begin or (n_bos and w.first == w.begin) for w in found)


def test_later_windows_move_on_by_the_stride_with_equal_context() -> None:
    assert list(windows(10, 6, 2)) == [Window(0, 1, 6), Window(2, 6, 8), Window(4, 8, 10)]
    assert list(windows(9, 6, 2))[-1] == Window(4, 8, 9)


def test_stride_equal_to_window_does_not_overlap() -> None:
    with_start = list(windows(10, 4, 4, n_bos=1))
    assert with_start == [Window(0, 1, 3), Window(3, 3, 6), Window(6, 6, 9), Window(9, 9, 10)]
    without = list(windows(10, 4, 4))  # one token of context has to stand in for the start token
    assert without == [Window(0, 1, 4), Window(3, 4, 7), Window(6, 7, 10)]


@pytest.mark.parametrize("n_tokens", [0, 1])
def test_nothing_to_predict_gives_no_window(n_tokens: int) -> None:
    assert list(windows(n_tokens, 8, 4)) == []


def test_bucket_edges_span_the_window() -> None:
    assert bucket_edges(4, 256) == (0, 64, 128, 192, 256)
    assert bucket_edges((16, 64), 256) == (0, 16, 64, 256)
    assert bucket_edges(3, 4) == (0, 1, 3, 4)
