"""MODA is listed, and refused with its reason."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from methods.unsupported.moda import Moda


def test_asking_for_it_gives_the_reason_and_what_to_use_instead() -> None:
    with pytest.raises(UserError, match=r"trains the model.*leaves out.*cca"):
        Moda().validate()
