"""Which nodes and shards of a cluster do not answer, for the message of a request that failed."""

from __future__ import annotations

from contextlib import suppress

from qdrant_client import models

from connector.core.deadline import within
from connector.core.errors import StoreError
from connector.stores.server.retry import Requests

_SECONDS = 0.5
"""For which each of the two questions waits; the user has waited for the search already."""


def ailing(requests: Requests, name: str) -> str:
    """What is known to be wrong with the nodes of a cluster and with a collection's shards; "" if nothing is.

    Args:
        requests: to one of its nodes.
        name: the collection.
    """
    nodes: dict[int, str] = {}
    ails: list[str] = []
    with suppress(StoreError):  # it does not answer either, or the key has no right to ask
        with within(_SECONDS):
            status = requests.once(requests.client.cluster_status)
        if isinstance(status, models.ClusterStatusOneOf1):
            nodes = {int(peer): it.uri for peer, it in status.peers.items()}
            ails += [f"node {uri} is not reached" for uri in status.message_send_failures]
    with suppress(StoreError):
        with within(_SECONDS):
            spread = requests.once(requests.client.collection_cluster_info, name)
        ails += [
            f"shard {it.shard_id} on node {nodes.get(it.peer_id, it.peer_id)} is {it.state.value.lower()}"
            for it in spread.remote_shards
            if it.state != models.ReplicaState.ACTIVE
        ]
    return "; ".join(ails)
