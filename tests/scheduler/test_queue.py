from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netlab.scheduler.model import pod
from netlab.scheduler.queue import Event, SchedulingQueue
from tests.scheduler.builders import a_pod

TAINTS, ROOM = frozenset((Event.NODE_TAINTS,)), frozenset((Event.POD_DELETED,))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def a_queue():
    clock = Clock()
    return SchedulingQueue(clock), clock


def test_priority_then_age():
    queue, clock = a_queue()
    for name, priority in (("low", 0), ("high", 9), ("low2", 0)):
        clock.now += 1
        queue.add(pod(a_pod(name, priority=priority)))
    assert [queue.take().pod.key for _ in range(3)] == ["ns/high", "ns/low", "ns/low2"]
    assert queue.take() is None


def test_a_refused_pod_waits_for_what_may_help():
    queue, _clock = a_queue()
    queue.add(pod(a_pod("p")))
    queue.refuse(queue.take(), TAINTS)
    queue.happened(Event.POD_DELETED)
    assert queue.take() is None
    queue.happened(Event.NODE_TAINTS)
    assert queue.take().attempts == 2, "at once: there is nothing else to do"


def test_others_come_before_one_that_backs_off():
    queue, _clock = a_queue()
    queue.add(pod(a_pod("p")))
    queue.refuse(queue.take(), TAINTS)
    queue.happened(Event.NODE_TAINTS)
    queue.add(pod(a_pod("fresh")))
    assert [queue.take().pod.key for _ in range(2)] == ["ns/fresh", "ns/p"]


def test_after_an_error_only_time_helps():
    queue, clock = a_queue()
    queue.add(pod(a_pod("p")))
    queue.fail(queue.take())
    assert queue.take() is None
    clock.now += 0.9
    assert queue.take() is None
    clock.now += 0.2
    queue.fail(queue.take())
    clock.now += 1.9
    assert queue.take() is None
    clock.now += 0.2
    assert queue.take().attempts == 3


def test_nobody_waits_for_ever():
    queue, clock = a_queue()
    queue.add(pod(a_pod("p")))
    queue.refuse(queue.take(), TAINTS)
    clock.now += 302
    assert queue.take() is not None


def test_a_changed_pod_is_tried_again_a_told_one_is_not():
    queue, _ = a_queue()
    queue.add(pod(a_pod("p", cpu="9")))
    queue.refuse(queue.take(), ROOM)
    queue.update(pod(a_pod("p", cpu="9")))
    assert queue.take() is None
    queue.add(pod(a_pod("p", cpu="1")))
    assert queue.take().pod.requests["cpu"] == 1000


def test_who_is_gone_is_not_put_back():
    queue, _ = a_queue()
    queue.add(pod(a_pod("p")))
    entry = queue.take()
    queue.remove("p")
    queue.refuse(entry, TAINTS)
    queue.fail(entry)
    assert len(queue) == 0


def test_pop_wakes_for_a_new_pod_and_for_the_end_of_a_back_off():
    async def body():
        loop = asyncio.get_running_loop()
        queue = SchedulingQueue(loop.time, first_backoff=0.02)
        loop.call_later(0.01, queue.add, pod(a_pod("p")))
        async with asyncio.timeout(2):
            entry = await queue.pop()
            queue.fail(entry)
            started = loop.time()
            assert (await queue.pop()) is entry
            assert loop.time() - started >= 0.015
    asyncio.run(body())


class QueueMachine(RuleBasedStateMachine):
    """Whatever happens, a Pod that was put in and not taken out is somewhere, once, and comes out in the end."""

    def __init__(self):
        super().__init__()
        self.queue, self.clock = a_queue()
        self.inside: set[str] = set()
        self.flying: dict[str, object] = {}

    @rule(name=st.sampled_from("abcde"), priority=st.integers(0, 2))
    def add(self, name, priority):
        self.queue.add(pod(a_pod(name, priority=priority)))
        self.inside.add(name)

    @rule(name=st.sampled_from("abcde"))
    def remove(self, name):
        self.queue.remove(name)
        self.inside.discard(name)
        self.flying.pop(name, None)

    @rule()
    def take(self):
        entry = self.queue.take()
        if entry is not None:
            assert entry.pod.uid in self.inside
            assert entry.pod.uid not in self.flying
            self.flying[entry.pod.uid] = entry

    @precondition(lambda self: self.flying)
    @rule(error=st.booleans(), data=st.data())
    def put_back(self, error, data):
        entry = self.flying.pop(data.draw(st.sampled_from(sorted(self.flying))))
        self.queue.fail(entry) if error else self.queue.refuse(entry, TAINTS)

    @rule(event=st.sampled_from([Event.NODE_TAINTS, Event.POD_DELETED]))
    def happened(self, event):
        self.queue.happened(event)

    @rule(seconds=st.sampled_from([0.5, 5, 50]))
    def wait(self, seconds):
        self.clock.now += seconds

    @invariant()
    def nobody_is_lost(self):
        assert len(self.queue) == len(self.inside - set(self.flying))

    def teardown(self):
        for name in list(self.flying):
            self.queue.fail(self.flying.pop(name))
        self.clock.now += 1000
        out = set()
        while (entry := self.queue.take()) is not None:
            out.add(entry.pod.uid)
        assert out == self.inside


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
