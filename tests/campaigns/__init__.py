"""Campaigns: seeded experiments that need thousands of runs to see a defect. They are slow tests, a minute each; `make campaign`
(the environment variable HEED_CAMPAIGN=full) runs them at full size. A failure prints the command that reproduces it.
"""

from __future__ import annotations

import os

FULL = os.environ.get("HEED_CAMPAIGN") == "full"
