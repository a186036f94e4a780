"""The matrix of the methods that work on pictures, as data: a setting that acts on the tiny models, one that must equal
dense (None: the method has none), and the families that it serves.

Everything that depends on the method's mechanism stands in the tests of its own file; here is what holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from harness.contracts.method import Method
from methods.activations.iri import Injection
from methods.activations.vhr import HeadReinforcement
from methods.activations.vista import Vista
from methods.contrast.dola import DoLa
from methods.contrast.icd import ICD
from methods.contrast.m3id import M3ID
from methods.contrast.vcd import VCD
from methods.contrast.vdd import VDD
from methods.inputs.carve import Carve
from methods.positions.cca import ConcentricCausal
from methods.search.opera import Opera
from methods.weights.pai import PAI
from methods.weights.paint import Paint
from methods.weights.vaf import VAF
from methods.weights.var import VAR
from tests import tiny_vlm

ALL = tiny_vlm.FAMILIES
SQUARE = ("llava", "vipllava")  # one grid of patches, one token each, and a class token
GRID = ("llava", "vipllava", "llava_next", "qwen2_vl", "qwen2_5_vl")
RATES = {"attn_out": torch.tensor([0.1, 0.4, 0.2, 0.3]), "mlp_out": torch.tensor([0.5, 0.1, 0.2, 0.3])}


@dataclass(frozen=True)
class Case:
    """One row of the matrix. `artifact`: what calibration would have found."""

    acts: Method
    equals_dense: Method | None
    families: tuple[str, ...] = ALL
    artifact: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.acts.name


CASES = (
    Case(VCD(), VCD(alpha=0, beta=0)),
    Case(ICD(), ICD(alpha=0, beta=0)),
    Case(VDD(), VDD(alpha=0, beta=0)),
    Case(M3ID(), M3ID(lam=0, cut=0)),
    Case(DoLa(), None),
    Case(PAI(), PAI(alpha=0, gamma=None)),
    Case(VAF(), VAF(enhance=1, suppress=1)),
    Case(Paint(), Paint(alpha=0, beta=0, gamma=None), SQUARE),
    Case(VAR(tau=1.7, sink_dims=tuple(range(8)), mass=0.05, rho=0.0), VAR(tau=1.7, q=0)),
    Case(HeadReinforcement(), HeadReinforcement(alpha=1)),
    Case(Vista(), Vista(strength=0, gamma=0)),
    Case(Injection(sources=1, targets=2), Injection(attn=0, mlp=0), artifact=RATES),
    Case(Carve(), None, GRID),
    Case(ConcentricCausal(), None, SQUARE),
    Case(Opera(num_beams=3, candidates=3), None),
)
PAIRS = [(case, family) for case in CASES for family in ALL]


def pair_id(value: object) -> str:
    """Test ids such as `vhr-llava_next`."""
    return str(value)
