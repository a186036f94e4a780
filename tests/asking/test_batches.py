"""Batches: every example once, within the budget, longest first; and halving when memory runs out."""

from __future__ import annotations

import random

import pytest
import torch

from harness.asking import batches
from harness.asking.batches import Mode, OutOfMemory, backoff, plan_batches
from harness.errors import UserError


def cost(batch: list[int], lengths: list[int], new: list[int]) -> int:
    return len(batch) * (max(lengths[i] for i in batch) + max(new[i] for i in batch))


@pytest.mark.parametrize("mode", ["any", "equal", "one"])
@pytest.mark.parametrize("seed", range(20))
def test_properties_of_a_plan(mode: Mode, seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.choice([1, 7, 64, 64, 200, 900]) for _ in range(rng.randint(0, 40))]
    new = [rng.randint(1, 50) for _ in lengths]
    plan = plan_batches(lengths, new, budget=1000, mode=mode)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or cost(batch, lengths, new) <= 1000 for batch in plan)
    heads = [lengths[batch[0]] for batch in plan]
    assert heads == sorted(heads, reverse=True)
    assert plan == plan_batches(list(lengths), list(new), budget=1000, mode=mode)
    if mode == "one":
        assert all(len(batch) == 1 for batch in plan)
    if mode == "equal":
        assert all(len({lengths[i] for i in batch}) == 1 for batch in plan)


def test_a_plan_by_hand() -> None:
    assert plan_batches([10, 20, 10, 30], [5, 5, 5, 5], budget=60) == [[3], [1, 0], [2]]
    assert plan_batches([10, 20, 10, 30], [5, 5, 5, 5], budget=60, mode="equal") == [[3], [1], [0, 2]]
    assert plan_batches([500, 2], [1, 1], budget=10) == [[0], [1]]
    assert plan_batches([], [], budget=10) == []


def oom(kind: str) -> Exception:
    if kind == "cuda":
        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if kind == "cpu":
        return RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried ...")
    return MemoryError()


@pytest.fixture(autouse=True)
def quick_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes long in a test process and is not what is tested."""
    monkeypatch.setattr(batches, "free_memory", lambda: None)


class Device:
    """Fits `capacity` items of a batch; counts what it was asked."""

    def __init__(self, capacity: int, kind: str = "cuda") -> None:
        self.capacity, self.kind, self.sizes = capacity, kind, list[int]()

    def __call__(self, batch: list[str]) -> list[str]:
        self.sizes.append(len(batch))
        if len(batch) > self.capacity:
            raise oom(self.kind)
        return [item.upper() for item in batch]


@pytest.mark.parametrize("kind", ["cuda", "cpu", "python"])
def test_a_batch_is_halved_until_it_fits_and_keeps_its_order(kind: str) -> None:
    device = Device(2, kind)
    assert backoff(device, list("abcdefg")) == list("ABCDEFG")
    assert device.sizes == [7, 4, 2, 2, 3, 2, 1]


def test_a_real_allocation_that_is_too_large_is_recognised() -> None:
    def huge(batch: list[str]) -> list[str]:
        torch.empty(1 << 60, dtype=torch.uint8)
        return batch

    with pytest.raises(OutOfMemory, match="does not fit into memory"):
        backoff(huge, ["abc"])


def test_a_single_example_that_does_not_fit_is_named_by_its_length() -> None:
    with pytest.raises(OutOfMemory, match=r"One example of 5 tokens does not fit .*20\.00 GiB") as caught:
        backoff(Device(0), ["hello"])
    assert isinstance(caught.value, UserError)
    with pytest.raises(OutOfMemory, match=r"of 12345 tokens"):
        backoff(Device(0), ["x"], length=lambda item: 12345)


def test_other_errors_pass_untouched() -> None:
    def broken(batch: list[int]) -> list[int]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        backoff(broken, [1, 2])


def test_no_item_is_computed_again_after_it_succeeded() -> None:
    done: list[str] = []

    def fn(batch: list[str]) -> list[str]:
        if len(batch) > 1:
            raise oom("cuda")
        done.extend(batch)
        return batch

    backoff(fn, list("abcd"))
    assert done == list("abcd")
