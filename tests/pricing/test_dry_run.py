"""The price of a plan: figures against arithmetic by hand, against the live model and against the real batches; what the dry run says
and what it leaves alone."""

from __future__ import annotations

import io
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from harness.asking.batches import plan_batches
from harness.asking.generation import generate
from harness.attention.attach import attach
from harness.commands.dry_run import settings_of, show, show_sweep
from harness.config.compose import compose
from harness.contracts.method import Method
from harness.efficiency import formulas
from harness.models import shapes
from harness.models.load import ModelSpec
from harness.plan.cells import cells
from harness.plan.refusals import Facts, refusal
from harness.pricing import batches, burden, requests, speed, work
from harness.pricing import model as models
from harness.pricing.batches import Batch
from harness.pricing.burden import Burden, static_density
from harness.pricing.price import Pricing
from harness.pricing.requests import Group
from harness.pricing.speed import Speeds
from harness.pricing.total import total
from harness.running.run import execute
from harness.terminal.printing import Terminal
from tests.golden import Requested
from tests.models import small
from tests.toy_probes import Peak

SPEEDS = Speeds(flops=1e11, bandwidth=1e10, small=5e-7)
EIGHT = shapes.shape("llama-3.1-8b").config


def plan(*overrides):
    cfg = compose(list(overrides))
    return cells(cfg), settings_of(cfg)


def priced(*overrides):
    made, settings = plan(*overrides)
    return total(Pricing(made, settings, SPEEDS), made)


def said(*overrides, width=200):
    made, settings = plan(*overrides)
    console = Terminal(file=io.StringIO(), width=width)
    show(made, settings.root, settings.limit, console, settings)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small.save(tmp_path_factory.mktemp("model") / "tiny-llama", max_position_embeddings=4096)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def test_llama_8b_by_hand():
    """Per layer 2 x 4096 x 4096 (queries, output) + 2 x 4096 x 1024 (keys, values) + 3 x 4096 x 14336 = 218,103,808."""
    m = models.of_config(EIGHT, "bfloat16")
    assert m.layer_weights == 32 * 218_103_808 and m.head_weights == 525_336_576
    assert m.weight_bytes == 2 * (8_030_261_248 - 65 * 4096)  # all parameters but the norms, two bytes each
    batch = Batch(size=2, prompt=1000, new=5, limit=5)
    first, rest = work.prefill(m, batch, Burden()), work.decode(m, batch, Burden())
    assert first.weights == 27_919_388_770_304  # 2 x 2 x (6,979,321,856 x 1000 + 525,336,576)
    assert first.attention == 524_812_288_000  # 2 x 4 x 128 x 32 heads x 32 layers x 500,500 pairs
    assert rest.weights == 120_074_534_912  # 4 forwards of 2 x 2 x 7,504,658,432
    assert rest.attention == 4_204_789_760  # 1001 + 1002 + 1003 + 1004 keys in place of the pairs
    assert rest.calls == 4 * 32
    memory = work.memory(m, [batch], Burden())
    assert memory.cache == 2 * 1005 * 131_072  # 2 x 128 x 8 key heads x 2 bytes x 32 layers for each token
    assert work.memory(m, [batch], Burden(), side_by_side=3).cache == 3 * memory.cache


@pytest.mark.parametrize("family", small.FAMILIES)
def test_a_config_says_what_the_live_model_says(family):
    view = small.view(family)
    m, d = models.of_config(view.model.config.to_dict(), "float32"), formulas.dims(view)
    assert (m.windows, m.heads, m.kv_heads, m.head_dim) == (d.windows, d.heads, d.kv_heads, d.head_dim)
    assert m.layer_weights == pytest.approx(d.layer_weights, rel=0.05 if family == "gpt_oss" else 0)  # its biases
    n, steps = 30, 4
    live = formulas.request(replace(d, layer_weights=m.layer_weights), 3, n, steps)
    batch = Batch(3, n, steps + 1, steps + 1)
    assert work.prefill(m, batch, Burden()).flops == live.flops_prefill
    assert work.decode(m, batch, Burden()).flops == pytest.approx(steps * live.flops_step)


def test_weights_on_the_disk_are_counted(folder):
    m = models.of(ModelSpec(path=str(folder)), "float32")
    assert m.weight_bytes == pytest.approx(small.view("llama").weight_bytes)


def test_pictures_take_the_tokens_and_operations_of_the_real_eyes():
    view = ModelSpec(path="micro-vlm").load()
    m = models.of(ModelSpec(path="micro-vlm"), "float32")
    pixels = torch.rand(1, 3, 112, 112)
    view.vision.tower.set_attn_implementation("eager")  # torch counts no fused attention on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        rows = view.vision.features({"pixel_values": pixels})
    assert m.eyes.tokens == len(rows) == 64
    assert m.eyes.flops == pytest.approx(counter.get_total_flops(), rel=0.001)


def test_batches_are_the_real_ones():
    rng = random.Random(0)
    for _ in range(200):
        mode, budget = rng.choice(["any", "equal", "one"]), rng.choice([50, 500, 3000])
        groups = [
            Group(rng.randint(1, 9), n, limit, limit)
            for n, limit in {rng.randint(1, 90): rng.choice([1, 8, 40]) for _ in range(rng.randint(1, 5))}.items()
        ]
        lengths = [g.prompt for g in groups for _ in range(g.count)]
        limits = [g.limit for g in groups for _ in range(g.count)]
        real = plan_batches(lengths, limits, budget, mode)
        expected = [(len(b), max(lengths[i] for i in b), max(limits[i] for i in b)) for b in real]
        found = batches.plan(groups, budget, mode)
        assert [(b.size, b.prompt, b.limit) for b in found for _ in range(b.times)] == expected


@pytest.mark.parametrize("name", ["power", "sliding", "streaming", "longnet", "dilated", "stride_slash"])
def test_static_patterns_read_what_they_are_counted_to_read(name):
    view = small.view("llama")
    method = plan(f"method=[{name}]")[0][1].method
    n = 200
    ids = torch.randint(5, 200, (1, n))
    with attach(view, method) as attached:
        generate(view, [ids[0].tolist()], [2], attached)
        report = attached.report()
    prefill, decode = static_density(method, n)
    assert prefill == pytest.approx(report["density_prefill"], rel=1e-9)
    assert static_density(method, n + 1)[1] == pytest.approx(report["density_decode"], rel=1e-9)
    assert 0 < decode < 1


def test_a_long_pattern_is_counted_on_some_of_its_queries():
    method = plan("method=[power]")[0][1].method
    exact = sum(static_density(method, n)[1] * n for n in range(1, 513)) / sum(range(1, 513))
    assert burden.PAIRS < 512 * 512
    assert static_density(method, 512)[0] == pytest.approx(exact, rel=0.02)


def test_second_streams_and_beams_multiply_the_work():
    vcd, dense = (
        next(c.method for c in plan("model=micro-vlm", "method=[vcd]", "task=[chair]")[0] if c.method_label == name)
        for name in ("vcd", "dense")
    )
    m, batch = models.of_config(EIGHT, "bfloat16"), Batch(2, 100, 9, 9)
    one, two = burden.of(dense, 1, "auto"), burden.of(vcd, 1, "auto")
    assert work.prefill(m, batch, two).flops == 2 * work.prefill(m, batch, one).flops
    beams = burden.of(dense, 5, "auto")
    assert work.decode(m, batch, beams).flops == 5 * work.decode(m, batch, one).flops
    assert work.prefill(m, batch, beams).flops == work.prefill(m, batch, one).flops


def test_what_a_method_does_to_inputs_is_left_out_at_every_turn_of_a_dialogue():
    for more, said_of in (([], "work on the inputs"), (["task.pope.chat=true"], "work on the inputs at every turn")):
        found, settings = plan("model=micro-vlm", "method=[carve]", "baseline=false", "task=[pope]", *more)
        assert f"{said_of} (left out)" in Pricing(found, settings).price(found[0]).assumed


# -- what tasks ask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "groups"),
    [
        (["task=[passkey]"], [(10, 256, 13), (10, 512, 13)]),
        (["task=[recall]", "task.recall.lengths=[256,512]"], [(20, 248, 8), (20, 504, 8)]),
        (["task=[ruler]", "task.ruler.max_new_tokens=50"], [(52, 462, 50), (52, 974, 50)]),
        (["task=[passkey]", "limit=5"], [(3, 256, 13), (2, 512, 13)]),
    ],
)
def test_stated_requests(overrides, groups):
    made, settings = plan(*overrides)
    found = requests.stated(made[0].task, None, settings.limit)
    assert [(g.count, g.prompt, g.new) for g in found.groups] == groups and not found.assumed


def test_what_nobody_knows_is_a_question_mark():
    text = said("task=[perplexity,ruler]", "results=nowhere")
    line = next(line for line in text.splitlines() if "perplexity" in line)
    assert line.split()[-6:] == ["?"] * 6
    assert "1 cells of unknown size are not counted" in text and "answers of 32 tokens" in text and "at least" in text
    found = priced("task=[perplexity]", "results=nowhere")
    assert found.unsized == 1 and found.heaviest is None and found.seconds_samples == 0


def on_gpu(monkeypatch, speeds):
    monkeypatch.setattr("harness.pricing.price.of_gpu", lambda device, element: speeds)
    made, settings = plan("model.micro-lm.device=cuda", "results=nowhere")
    return total(Pricing(made, settings), made), said("model.micro-lm.device=cuda", "results=nowhere")


def test_a_gpu_that_is_not_here_has_a_price_but_no_time(monkeypatch):
    found, text = on_gpu(monkeypatch, None)
    assert found.untimed == 1 and found.todo[0].flops > 1e9
    assert "their device cannot be measured here" in text and "Time: ?" in text


def test_a_gpu_that_is_here_is_measured(monkeypatch):
    found, text = on_gpu(monkeypatch, Speeds(1e14, 3e12, 5e-7, overlap=True))
    assert not found.untimed and "on cuda a matrix product at 100 TFLOP/s and memory at 3 TB/s, measured now" in text
    assert speed.of_gpu("cuda:99", 4) is None  # no such device, or a torch without CUDA


def test_a_gpu_computes_while_calls_are_prepared():
    work_ = work.Work(weights=6e9, calls=10)
    one, other = Speeds(1e10, 1e10, 1e-6), Speeds(1e10, 1e10, 1e-6, overlap=True)
    assert one.prefill(work_) == pytest.approx(1 + 0.02) and other.prefill(work_) == pytest.approx(1)
    assert other.decode(work.Work(weights=6e3, calls=10)) == pytest.approx(0.02)


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_sharing_leaves_out_all_prefills_of_a_group_but_one():
    found = priced("method=[quest,snapkv,h2o,power]", "task=[passkey]", "results=nowhere")
    by_name = {p.cell.method_label: p for p in found.prices}
    assert [[p.cell.method_label for p in g] for g in found.groups] == [["dense", "quest"], ["snapkv", "h2o"]]
    left_out = by_name["quest"].cost.prefill.flops + by_name["h2o"].cost.prefill.flops
    assert found.saving.flops == pytest.approx(left_out)
    assert found.seconds_unshared - found.seconds == pytest.approx(found.saving.seconds) and found.saving.seconds > 0
    starts = (len(found.prices) - 1) * (found.start + found.load["micro-lm"])
    assert found.seconds_apart - found.seconds_unshared == pytest.approx(starts)


def test_without_sharing_nothing_is_saved():
    overrides = ["method=[quest,snapkv,h2o]", "task=[passkey]", "results=nowhere"]
    assert "4 cells read their prompts in 2 groups" in said(*overrides)
    assert "Sharing: off" in said(*overrides, "share=false")
    found = priced(*overrides, "share=false")
    assert found.saving.flops == found.saving.seconds == 0 and not found.groups


def test_a_beam_search_shares_nothing_and_costs_more():
    beam, greedy = (
        priced("method=[quest]", "results=nowhere", f"decoding.search={search}") for search in ("beam", "greedy")
    )
    assert not beam.groups and beam.seconds_samples > greedy.seconds_samples


def test_pictures_that_prompts_have_in_common_are_read_once(tmp_path):
    overrides = ["model=micro-vlm", "task=[pope]", "task.pope.scenes=4", "efficiency=off", f"results={tmp_path}"]
    assert "known after a first run" in said(*overrides)
    made, settings = plan(*overrides)
    assert {o.status for o in execute(made, settings)} == {"done"}
    rows = [
        json.loads(line) for line in (tmp_path / "runs" / made[0].run_id / "samples.jsonl").read_text().splitlines()
    ]
    found = priced(*overrides, "method=[vhr]")  # dense is finished
    (vhr,) = found.todo
    pictures = len({row["images"][0] for row in rows})
    assert (vhr.asked.count, vhr.asked.pictures) == (len(rows), pictures) and pictures < len(rows)
    again = 1 - pictures / len(rows)
    assert found.saving.flops == pytest.approx(again * vhr.cost.encode.flops)  # its prompts do not go on from a prefix
    shared = priced(*overrides, "method=[vcd]")
    assert shared.saving.flops == pytest.approx(
        again * shared.todo[0].cost.encode.flops + shared.todo[0].cost.common.flops
    )
    assert priced(*overrides, "method=[vcd]", "share=false").saving.flops == 0


# -- earlier runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A results folder with two finished cells on three lengths, unshared."""
    root = tmp_path_factory.mktemp("results")
    made, settings = plan(*small_run(folder, root))
    assert {o.status for o in execute(made, settings)} == {"done"}
    return root


def small_run(folder, root, *more):
    task = ["task=[passkey]", "task.passkey.lengths=[200,300,400]", "task.passkey.depths=[0,100]"]
    return [f"model={folder}", "method=[power]", *task, f"results={root}", "efficiency=off", "share=false", *more]


def test_what_is_finished_costs_nothing(folder, finished):
    found = priced(*small_run(folder, finished))
    assert not found.todo and found.seconds == 0
    text = said(*small_run(folder, finished))
    assert "2 cells, 2 finished" in text and "every cell is finished" in text


def test_prices_follow_what_earlier_runs_took(folder, finished):
    overrides = small_run(folder, finished, "seed=1")
    made, settings = plan(*overrides)
    pricing = Pricing(made, settings, SPEEDS)
    assert pricing.learned == 2 and "corrected by 2 earlier runs" in said(*overrides)
    one = total(pricing, made)
    for done in plan(*small_run(folder, finished))[0]:
        taken = json.loads((finished / "runs" / done.run_id / "cost.json").read_text())["seconds"]
        again = next(p for p in one.prices if p.cell.method_label == done.method_label)
        # what is told is longer than what was answered, by a few tokens
        assert 0.5 * taken < again.seconds_samples < 3 * taken


def test_a_shared_run_is_compared_with_its_part_of_the_prefill(folder, finished, tmp_path):
    import shutil

    def taken(root):
        made, settings = plan(*small_run(folder, root, "seed=1"))
        return next(p for p in total(Pricing(made, settings, SPEEDS), made).prices if p.cell.method_label == "dense")

    root, (cell, *_) = tmp_path / "results", plan(*small_run(folder, finished))[0]
    shutil.copytree(finished, root)
    alone, file = taken(root), root / "runs" / cell.run_id / "cost.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"side_by_side": 4}))
    assert taken(root).ratio > alone.ratio  # as long for less work
    samples = file.with_name("samples.jsonl")
    rows = [json.loads(line) | {"shared": ["prefill"]} for line in samples.read_text().splitlines()]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert taken(root).ratio > alone.ratio
    file.write_text(
        json.dumps({"seconds": 1e6, "tokens": 1})
    )  # with how many it was read is not known: it says nothing
    assert taken(root).ratio < 1e3


def test_lengths_come_from_samples_of_the_same_task(folder, finished):
    found = priced(
        *small_run(folder, finished, "method=[quest]", "method.quest.budget=64", "method.quest.dense_layers=1")
    )
    (quest,) = found.todo
    stored = next(iter((finished / "runs").glob("*/samples.jsonl"))).read_text().splitlines()
    rows = [json.loads(line) for line in stored]
    assert quest.asked.recorded and quest.asked.count == len(rows)
    assert quest.asked.prompt == sum(r["n_prompt_tokens"] for r in rows)
    another = priced(*small_run(folder, finished, "seed=7")).todo[0]  # other examples, as long as these
    assert another.asked.recorded and another.asked.count == len(rows)
    longer = priced(*small_run(folder, finished, "seed=7", "task.passkey.lengths=[200,300,500]")).todo[0]
    assert not longer.asked.recorded


def test_a_cell_that_was_interrupted_costs_what_is_left(folder, tmp_path):
    overrides = small_run(folder, tmp_path)
    made, settings = plan(*overrides)
    whole = total(Pricing(made, settings, SPEEDS), made)
    cell = made[0]
    cell_folder = tmp_path / "runs" / cell.run_id
    cell_folder.mkdir(parents=True)
    n = whole.prices[0].asked.count
    (cell_folder / "samples.jsonl").write_text("{}\n" * (n // 2))
    (cell_folder / "config.json").write_text("not json")  # `heed run` will complain
    left = total(Pricing(made, settings, SPEEDS), made)
    assert left.prices[0].stored == n // 2
    assert left.prices[0].flops == pytest.approx(whole.prices[0].flops * (1 - (n // 2) / n))
    assert f"{n // 2} samples" in said(*overrides)


def test_a_run_of_another_machine_tells_lengths_and_no_times(folder, finished, tmp_path):
    import shutil

    root = tmp_path / "results"
    shutil.copytree(finished, root)
    for file in root.glob("runs/*/provenance.json"):
        stored = json.loads(file.read_text())
        stored["sessions"][0]["cpus"] = 4096
        file.write_text(json.dumps(stored))
    made, settings = plan(*small_run(folder, root, "seed=1"))
    assert Pricing(made, settings, SPEEDS).learned == 0


# -- what will be refused ---------------------------------------------------------------------------------------------

REFUSED = [
    ("micro-lm", "snapkv", "perplexity"), ("micro-lm", "quest", "perplexity"), ("micro-lm", "vhr", "recall"),
    ("micro-lm", "dense", "pope"), ("micro-lm", "power", "pope"), ("micro-lm", "dense", "ruler"), ("micro-lm", "power", "ruler"),
    ("micro-lm", "wide", "recall"),
]  # fmt: skip
MATRIX = [
    "method=[power,snapkv,quest,vhr]", "+method.wide=${method.snapkv}", "method.wide.capacity=4000",
    "task=[perplexity,pope,ruler,recall]", "task.pope.scenes=4", "task.ruler.lengths=[8192]", "task.recall.lengths=[256]",
    "task.recall.samples=1", "task.perplexity.max_tokens=512", "efficiency=off",
]  # fmt: skip


def test_the_plan_refuses_what_the_run_refuses_in_the_same_words(tmp_path):
    overrides = [*MATRIX, f"results={tmp_path}"]
    made, settings = plan(*overrides)
    found = {p.cell.label: p.refused for p in total(Pricing(made, settings, SPEEDS), made).prices}
    for outcome in execute(made, settings):
        said_before, cell = found[outcome.cell.label], outcome.cell
        assert bool(said_before) == (outcome.status != "done"), (outcome.cell.label, outcome.reason)
        assert not outcome.bug
        if cell.method_label == "wide" and cell.task_label == "recall":  # the prompt is shorter than the task's length
            assert said_before.startswith("Method 'snapkv' would not change this model on this task: ")
            assert "Method 'snapkv' would not change this model on this task: " in outcome.reason
        elif said_before:
            assert outcome.reason.removeprefix(f"{cell.label}: ") == said_before
    for labels in REFUSED:
        assert found[" / ".join(labels)], labels


def test_a_method_that_rewrites_prompts_is_refused_where_the_task_gives_token_ids():
    class Rewriting(Method):
        def transform(self, view, draft, ask):
            return draft

    (cell,) = plan("baseline=false", "method=[power]")[0]
    facts = Facts(4096, False)
    assert not refusal(replace(cell, method=Rewriting()), facts, "greedy")  # its task generates from a prompt
    assert "rewrites the prompt" in refusal(replace(cell, task=Requested(), method=Rewriting()), facts, "greedy")
    assert not refusal(replace(cell, task=Requested()), facts, "greedy")


def test_a_probe_is_refused_on_requests_of_several_prompts():
    (cell,) = plan("baseline=false", "method=[power]")[0]
    assert not refusal(replace(cell, method=Peak()), Facts(4096, False), "greedy")
    said = refusal(replace(cell, task=Requested(), method=Peak()), Facts(4096, False), "greedy")
    assert said.startswith("Probe 'peak' looks at one prompt for each example")


def test_what_is_refused_has_no_price_and_is_named_once():
    text = said("method=[snapkv,quest]", "task=[perplexity,ruler]", "task.ruler.lengths=[8192]", "results=nowhere")
    assert "6 cells, 0 finished, 5 refused" in text
    assert text.count("needs 8192 positions, but model 'micro-lm' has 4096") == 1
    assert "refused micro-lm / snapkv / perplexity: Method 'snapkv' acts only after the prompt" in text
    found = priced("method=[snapkv]", "task=[ruler]", "task.ruler.lengths=[8192]", "results=nowhere")
    assert not found.todo and found.seconds == 0 and not found.groups
    assert "every cell is finished or refused" in said("task=[ruler]", "task.ruler.lengths=[8192]", "results=nowhere")


def test_lengths_that_the_model_cannot_read_are_left_out_of_the_price():
    overrides = ["task=[passkey]", "results=nowhere", "task.passkey.trials=1"]
    (one,) = priced(*overrides, "task.passkey.lengths=[256]").todo
    (both,) = priced(*overrides, "task.passkey.lengths=[256,8192]").todo
    assert both.asked == one.asked and len(both.skipped) == 5
    text = said(*overrides, "task.passkey.lengths=[256,8192]")
    assert "left out of micro-lm / dense / passkey: length 8192 needs 8205 positions" in text


# -- the command ------------------------------------------------------------------------------------------------------


def test_nothing_is_written(tmp_path):
    said("method=[power,quest]", "task=[passkey,ruler]", f"results={tmp_path / 'new'}")
    assert list(tmp_path.iterdir()) == []


def test_narrow_terminals_keep_numbers_whole():
    text = said("method=[streaming_kv]", "task=[passkey,recall]", "results=nowhere", width=80)
    row = next(line for line in text.splitlines() if "streaming_kv" in line)
    assert "MiB" in row and row.rstrip().endswith("s")


@pytest.mark.slow
def test_a_large_plan_is_priced_soon_and_summed_up():
    overrides = ["method=[dense,quest]", "task=[passkey]", "results=nowhere"]
    for i in range(98):
        overrides += [f"+method.q{i}=${{method.quest}}", f"method.q{i}.budget={i + 65}"]
    for i in range(99):
        overrides += [f"+task.t{i}=${{task.passkey}}", f"task.t{i}.trials={i + 3}"]
    made, settings = plan(*overrides)
    console, start = Terminal(file=io.StringIO(), width=120), time.process_time()
    show(made, settings.root, settings.limit, console, settings)
    assert time.process_time() - start < 8
    text = console.file.getvalue()
    assert len(made) == 10_000 and "... and 9960 more cells" in text and "To run: 10000 cells" in text
    assert len(text.splitlines()) < 60


def test_the_machine_is_measured_in_a_moment():
    speed.measured.cache_clear()
    start = time.process_time()
    found = speed.measured()
    assert time.process_time() - start < 2
    assert 1e8 < found.flops < 1e15 and 1e8 < found.bandwidth < 1e13 and 1e-8 < found.small < 1e-4


# -- sweeps -----------------------------------------------------------------------------------------------------------


def sweep(*overrides):
    from harness.launch.expand import expand
    from harness.launch.options import split

    described, options = split(list(overrides))
    console = Terminal(file=io.StringIO(), width=160)
    show_sweep(expand(described, options.jobs, options.shards, options.alone), console)
    return console.file.getvalue()


def test_jobs_of_a_sweep_count_the_baseline_once():
    text = sweep("method=power,quest", "results=nowhere")
    jobs = [line.split() for line in text.splitlines() if line.startswith("method=")]
    assert [row[:3] for row in jobs] == [["method=power", "2", "2"], ["method=quest", "2", "1"]]
    assert "3 cells" in text and "2 jobs, 2 to run" in text and "The longest job: about" in text


def test_shards_of_a_cell_add_up_to_it():
    def asked(text):
        return next(line for line in text.splitlines() if line.startswith("To run"))

    assert asked(sweep("method=[power]", "results=nowhere", "shards=4")) == asked(
        sweep("method=[power]", "results=nowhere")
    )


def test_cells_of_a_sweep_with_other_seeds_are_all_there():
    text = sweep("+method.wide=${method.power}", "method.wide.window_blocks=9", "method=[power]", "seed=0,1")
    assert sum("wide" in line for line in text.splitlines() if line.startswith("micro-lm")) == 2


def test_known_shapes_are_priced_without_weights():
    for name in shapes.names():
        config = OmegaConf.to_container(OmegaConf.load(Path("configs/shape") / f"{name}.yaml"))
        assert models.of_config(config, "bfloat16").weight_bytes > 0
