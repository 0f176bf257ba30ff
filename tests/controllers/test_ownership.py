from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import kinds
from netlab.controllers.ownership import Fate, Graph, fate

PODS, SETS = kinds.resource("pods"), kinds.resource("replicasets.apps")


def an_object(uid, owners=(), *, block=True, finalizers=(), deleting=False):
    head = {"name": uid, "namespace": "ns", "uid": uid, "finalizers": list(finalizers), "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "blockOwnerDeletion": block}
        for owner in owners]}
    return {"metadata": head | ({"deletionTimestamp": "2027-01-01T00:00:00Z"} if deleting else {})}


@pytest.mark.parametrize(("states", "verdict", "kept"), [
    ([], Fate.KEEP, 0), (["solid"], Fate.KEEP, 1), (["gone"], Fate.DELETE, 1), (["gone", "gone"], Fate.DELETE, 2),
    (["solid", "gone"], Fate.TRIM, 1), (["solid", "waiting"], Fate.TRIM, 1), (["waiting"], Fate.DELETE_FIRST, 1),
    (["gone", "waiting"], Fate.DELETE_FIRST, 2)])
def test_fate(states, verdict, kept):
    rows = [{"uid": str(number)} for number in range(len(states))]
    found, left = fate(rows, lambda row: states[int(row["uid"])])
    assert (found, len(left)) == (verdict, kept)


def test_dependents_and_blockers():
    graph = Graph()
    graph.see(PODS, an_object("pod", ["set"]))
    graph.see(PODS, an_object("free", ["set"], block=False))
    owner = graph.see(SETS, an_object("set", finalizers=["foregroundDeletion"], deleting=True))
    assert {node.uid for node in owner.dependents} == {"pod", "free"}
    assert owner.waits_for_dependents
    assert [node.uid for node in graph.blockers(owner)] == ["pod"]
    dependents, owners = graph.forget("pod")
    assert (dependents, [node.uid for node in owners]) == ([], ["set"])
    assert graph.blockers(owner) == []
    dependents, _ = graph.forget("set")
    assert [node.uid for node in dependents] == ["free"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.sets(st.sampled_from("abcd"), max_size=2))),
                max_size=30))
def test_the_graph_is_what_the_objects_say(steps):
    """After any history of changes the edges are those of the objects that exist, and nothing else is kept."""
    graph, world = Graph(), {}
    for uid, owners in steps:
        if owners is None:
            world.pop(uid, None)
            graph.forget(uid)
        else:
            world[uid] = owners - {uid}
            graph.see(PODS, an_object(uid, sorted(owners - {uid})))
    referenced = set().union(*world.values()) if world else set()
    assert {uid for uid, node in graph.nodes.items() if node.kind} == set(world)
    assert set(graph.nodes) == set(world) | referenced
    for uid, node in graph.nodes.items():
        assert {one.uid for one in node.dependents} == {other for other, owners in world.items() if uid in owners}
