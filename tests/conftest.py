"""Tiny models run faster on one thread, in this process and in the ones that tests start."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
