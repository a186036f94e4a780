"""Claims -> verdicts: run the checks that can run here, look the others up in the records, and say what is left and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.claims.kinds import expectation, judge, measurement
from harness.claims.loans import Bench
from harness.claims.records import findings
from harness.claims.words import Claim, Status, Verdict
from harness.contracts.check import Finding
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.records.cells import CellRecord


def decide(
    claims: Sequence[Claim], cells: Sequence[CellRecord] = (), told: Callable[[Claim], None] | None = None
) -> list[Verdict]:
    """One verdict per claim, in their order. `told` hears of each claim before it is decided."""
    bench, out = Bench(), []
    for claim in claims:
        if told is not None:
            told(claim)
        out.append(verdict(claim, cells, bench))
    return out


def verdict(claim: Claim, cells: Sequence[CellRecord], bench: Bench) -> Verdict:
    """The verdict on one claim. What a check refuses was not tested; anything else that it raises is a bug, and raised."""
    if claim.check is not None:
        try:
            return _judged(claim, {"": claim.check.measure(bench)})
        except UserError as error:
            return Verdict(claim, "not tested", expectation(claim), "-", str(error))
    if claim.cells:
        found, reason = findings(claim, cells)
        return _judged(claim, found) if found else Verdict(claim, "not tested", expectation(claim), "-", reason)
    return Verdict(claim, "not tested", expectation(claim), "-", f"needs {claim.needs}")


def _judged(claim: Claim, found: dict[str, Finding]) -> Verdict:
    """Several models must all agree with the claim."""
    results = {where: judge(claim, finding) for where, finding in found.items()}
    holds = all(result for result, _ in results.values())
    texts = [_at(where, measurement(claim, finding)) for where, finding in found.items()]
    reasons = [_at(where, why) for where, (_, why) in results.items() if why]
    reasons += [claim.note] if claim.note else []
    status: Status = "reproduced" if holds else "not reproduced"
    return Verdict(claim, status, expectation(claim), "; ".join(texts), "; ".join(reasons))


def _at(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text
