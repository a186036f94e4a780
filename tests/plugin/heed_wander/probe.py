"""Nearness: how much of a prompt's last token each layer spends on the nearest keys (own example, no paper)."""

from dataclasses import dataclass

from harness.contracts.probe import Probe
from harness.contracts.table import Column


@dataclass(frozen=True, kw_only=True)
class Nearness(Probe):
    """The weight of the last `recent` keys, the mean over the heads."""

    name = "nearness"
    title = "How much is spent on the nearest keys"
    paper = "own"
    phases = frozenset({"prefill"})
    columns = (Column("layer", "layer"), Column("near", unit="share", meaning="weight of the nearest keys"))
    options = {"recent": "nearest tokens"}

    recent: int = 32

    def validate(self):
        self.require(self.recent >= 1, "recent", "a query reads at least itself")

    def probs(self, ctx, a):
        ctx.request.state[ctx.layer] = float(a[0, :, -1, -self.recent :].sum(-1).mean())

    def rows(self, example, request, answer):
        return sorted(request.state.items())
