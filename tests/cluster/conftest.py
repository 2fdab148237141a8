"""Three broker nodes for the tests of a module."""

from collections.abc import Iterator

import pytest

from dev.cluster import Cluster, cluster
from dev.setup import uses_given_servers
from tests.conftest import Topology


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """The cluster, with the topology on vhost `tests`; every test leaves it with all nodes up."""
    if uses_given_servers():
        pytest.skip("DATABASE_URL and AMQP_URL name servers that may not be killed: no cluster of our own is started")
    with cluster("test-cluster") as started:
        Topology(started.add_vhost("tests")).settle()
        yield started
