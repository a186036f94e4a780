"""The cluster that the tests of this folder share. HEED_REQUIRE_SLURM=1 (set by .ci/run) makes its absence a failure."""

from __future__ import annotations

import os

import pytest

from tests.models.small import save
from tests.slurm.cluster import Cluster, missing
from tests.slurm.drive import MATRIX, finish, once


@pytest.fixture(scope="session")
def slurm():
    why = missing()
    if why and os.environ.get("HEED_REQUIRE_SLURM"):
        pytest.fail(f"HEED_REQUIRE_SLURM is set, but {why}")
    if why:
        pytest.skip(why)
    with Cluster(2) as cluster:
        yield cluster


@pytest.fixture
def cluster(slurm):
    """The shared cluster with an empty queue and all nodes up."""
    slurm.heal()
    yield slurm
    slurm.heal()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny random checkpoint."""
    return save(tmp_path_factory.mktemp("models") / "one", max_position_embeddings=4096)


@pytest.fixture(scope="session")
def single(model, tmp_path_factory):
    """The results folder of one process that computed the whole matrix."""
    root = tmp_path_factory.mktemp("single") / "results"
    done = finish(once(root, f"model={model}", *MATRIX))
    assert done.returncode == 0, done.output
    return root
