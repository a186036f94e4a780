"""What papers print about methods, beside what is measured here: published figures and claims, one file per method.

    published("NAME")      # its published figures, for a report: a list of dictionaries
    load()                 # all claims of configs/claim/, checked
    decide(claims, cells)  # each reproduced, not reproduced or not tested

Figures come from papers and are shown, never judged. A claim is a statement that can be wrong: by arithmetic, by a run of a
micro model, or by stored results. Importing this package is cheap; torch is loaded by the checks that need it.
"""

from __future__ import annotations

from harness.claims.claim_files import load
from harness.claims.decide import decide
from harness.claims.figures import published
from harness.claims.words import Claim, Verdict
from harness.contracts.check import Check, Finding

__all__ = ["Check", "Claim", "Finding", "Verdict", "decide", "load", "published"]
