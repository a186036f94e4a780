"""One example asked under a probe, and what the probe saw of it: the one road of `heed probe` and of calibrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from harness.asking.decoding import GREEDY, Decoding
from harness.attention.refusals import several
from harness.contracts.asker import Answer, Asker
from harness.contracts.example import Example
from harness.contracts.probe import Probe
from harness.contracts.table import Row, check_rows

if TYPE_CHECKING:
    from harness.attention.attach import Attached
    from harness.models.inputs import Sample


def look(
    asker: Asker, example: Example, sample: Sample, attached: Attached, decoding: Decoding = GREEDY
) -> tuple[Answer, list[Row]]:
    """The answer, which is dense's, and the rows. `sample`: what the model reads of the example; `attached`: the probe at work.
    `ValueError` for rows that its columns cannot hold.
    """
    probe = cast(Probe, attached.method)
    (answer,) = asker.answer(attached.view, [example.question], [sample], attached, decoding, share=False)
    request = attached.request
    if len(request.inputs.samples) != 1:
        raise several(probe)
    rows: list[Row] = [tuple(row) for row in probe.rows(example, request, answer)]
    try:
        check_rows(probe.columns, rows)
    except ValueError as error:
        raise ValueError(f"probe '{probe.name}' on example '{example.id}': {error}") from error
    return answer, rows
