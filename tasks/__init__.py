"""The benchmarks: one folder per task. The harness reaches them through `harness.contracts.task` only."""
