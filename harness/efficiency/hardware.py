"""What the measurement ran on, in words that can stand beside a number."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

CPUINFO = Path("/proc/cpuinfo")


def describe(device: torch.device) -> dict[str, Any]:
    """Kind and name of the device: `cpu: <model> x <threads> threads`, or the GPU's name; and the version of torch."""
    if device.type == "cuda":
        name, count = torch.cuda.get_device_name(device), torch.cuda.device_count()
        return {
            "device": "cuda",
            "name": name,
            "visible_gpus": count,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        }
    threads = torch.get_num_threads()
    name = f"cpu: {cpu_name()} x {threads} threads" if device.type == "cpu" else device.type
    return {"device": device.type, "name": name, "threads": threads, "torch": torch.__version__}


def cpu_name() -> str:
    """The processor's model name, as far as the system tells."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"
