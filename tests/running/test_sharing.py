"""Sharing inside a job: who shares, that answers are those of a method alone bit for bit, and that a run says so."""

from __future__ import annotations

import json

import pytest

from harness.asking.decoding import GREEDY, Decoding
from harness.config.compose import compose
from harness.plan.cells import cells
from harness.plan.sharing import groups
from harness.running.run import RunSettings, execute
from tests.models.small import save

METHODS = "method=[quest,snapkv,h2o,streaming_kv,power]"
SMALL = (
    "method.quest.budget=64", "method.quest.dense_layers=1", "method.snapkv.capacity=64", "method.streaming_kv.recent=60",
    "+method.snapkv_48=${method.snapkv}", "method.snapkv_48.capacity=48", "+method.h2o_wide=${method.h2o}",
    "method.h2o_wide.heavy=0.3", "method.power.block_size=16", "method.power.window_blocks=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=4096)


def plan(folder, *overrides):
    task = ("task=passkey", "task.passkey.lengths=[300,500]", "task.passkey.depths=[0,100]")
    return cells(compose([f"model={folder}", METHODS, *SMALL, *task, *overrides]))


def samples(root, cell):
    lines = (root / "runs" / cell.run_id / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_methods_with_equal_batches_and_a_dense_prefill_stand_together(folder):
    found = [[c.method_label for c in group] for group in groups(plan(folder), GREEDY)]
    assert found == [["dense", "quest"], ["snapkv", "h2o", "streaming_kv", "snapkv_48", "h2o_wide"], ["power"]]


def test_nobody_shares_under_a_beam_search_or_when_told_not_to(folder):
    made = plan(folder)
    for found in (groups(made, Decoding(search="beam")), groups(made, GREEDY, share=False)):
        assert [len(group) for group in found] == [1] * len(made)


@pytest.mark.parametrize("search", ["greedy", pytest.param("sample", marks=pytest.mark.slow)])
def test_shared_equals_alone_bit_for_bit(folder, tmp_path, search):
    made = plan(folder, f"decoding.search={search}")
    for share in (True, False):
        settings = RunSettings(tmp_path / str(share), efficiency="off", batch_tokens=2048, share=share)
        settings = RunSettings(**{**vars(settings), "decoding": Decoding(search=search)})
        assert {o.status for o in execute(made, settings)} == {"done"}
    for cell in made:
        shared, alone = (samples(tmp_path / str(share), cell) for share in (True, False))
        routes = {tuple(row.pop("shared", ())) for row in shared}
        assert routes == {() if cell.method_label == "power" else ("prefill",)}
        assert shared == alone and not any("shared" in row for row in alone)


def test_the_prompt_is_read_once_for_all_and_scores_are_made_once(folder, tmp_path, monkeypatch):
    from methods.cache.snapkv import SnapKV

    votes, made = [], plan(folder)
    original = SnapKV.votes
    monkeypatch.setattr(SnapKV, "votes", lambda self, ctx, keys: votes.append(ctx.layer) or original(self, ctx, keys))
    counted = {}
    for share in (True, False):
        votes.clear()
        execute(made, RunSettings(tmp_path / str(share), efficiency="off", batch_tokens=2048, share=share))
        counted[share] = len(votes)
    proofs = 2 * made[0].spec.load().n_layers  # each of the two settings proves by itself that it works
    assert counted[False] - proofs == 2 * (counted[True] - proofs)


@pytest.mark.slow
def test_a_cut_run_that_shares_ends_like_an_uninterrupted_one(folder, tmp_path):
    made = plan(folder)
    whole, cut = (RunSettings(tmp_path / name, efficiency="off", batch_tokens=1100) for name in ("whole", "cut"))
    for settings in (whole, cut):
        execute(made, settings)
    for n, cell in enumerate(made):  # as after kills at several places
        run = cut.root / "runs" / cell.run_id
        lines = (run / "samples.jsonl").read_bytes().splitlines(keepends=True)
        (run / "samples.jsonl").write_bytes(b"".join(lines[:n]) + lines[n][: 10 * (n % 3)])
        (run / "DONE").unlink()
        (run / "metrics.json").unlink()
    execute(made, cut)
    for cell in made:
        for name in ("samples.jsonl", "metrics.json"):
            assert (whole.root / "runs" / cell.run_id / name).read_bytes() == (
                cut.root / "runs" / cell.run_id / name
            ).read_bytes()


def test_one_method_that_raises_leaves_the_others_alone(folder, tmp_path, monkeypatch):
    from methods.cache.h2o import HeavyHitters

    made = plan(folder, "task.passkey.lengths=[300]")
    ids = [row["id"] for row in _ids(made, tmp_path)]
    bad = ids[-1]  # not the longest: with that one every method proves that it works
    original = HeavyHitters.received

    def received(self, ctx, keys):
        if ctx.q_offset > 0 and ctx.request and bad in [draft.id for draft in ctx.request.drafts]:
            raise ZeroDivisionError("in the middle of an answer")
        return original(self, ctx, keys)

    monkeypatch.setattr(HeavyHitters, "received", received)
    outcomes = {o.cell.method_label: o for o in execute(made, RunSettings(tmp_path / "raises", efficiency="off"))}
    failed = {label for label, o in outcomes.items() if o.status == "failed"}
    assert failed == {"h2o", "h2o_wide"} and bad in outcomes["h2o"].reason
    assert not outcomes["h2o"].bug and "errors.jsonl" in outcomes["h2o"].reason
    h2o = next(c for c in made if c.method_label == "h2o")
    assert {row["id"] for row in samples(tmp_path / "raises", h2o)} == set(ids) - {bad}


def _ids(made, tmp_path):
    execute(made[:1], RunSettings(tmp_path / "ids", efficiency="off"))
    return samples(tmp_path / "ids", made[0])
