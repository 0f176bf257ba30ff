"""The plugin loopback: sets lo up in the container (plugins/main/loopback)."""

from __future__ import annotations

import os
from typing import Final

from netlab.cni import result as results
from netlab.cni.result import IP, CniError, Interface, Result
from netlab.cni.skel import Call, Plugin
from netlab.errors import NetnsGone
from netlab.kernel import link, netns
from netlab.kernel.rtnl import Rtnl


def add(call: Call) -> Result:
    """Set lo up; pass on what the plugins before said, or else say what lo has."""
    with _container(call) as pod:
        pod.send(link.change("lo", up=True))
        if call.previous is not None:
            return call.previous
        addresses = [address for address in link.addresses(pod, 1) if address.ip in ("127.0.0.1", "::1")]
    return Result((Interface("lo", "00:00:00:00:00:00", sandbox=call.netns),),
                  tuple(IP(address.cidr, interface=0) for address in addresses))


def delete(call: Call) -> None:
    """Set lo down; fine when the namespace is gone."""
    try:
        with _container(call) as pod:
            pod.send(link.change("lo", up=False))
    except CniError:
        return


def check(call: Call) -> None:
    """Fail unless lo is up."""
    with _container(call) as pod:
        if not link.get(pod, "lo").up:
            raise CniError(results.INTERNAL, "loopback interface is down")


PLUGIN: Final = Plugin("loopback", add, delete, check)


def _container(call: Call) -> Rtnl:
    try:
        fd = netns.open_netns(call.netns)
        try:
            return Rtnl(fd)
        finally:
            os.close(fd)
    except NetnsGone as error:
        raise CniError(results.INTERNAL, f'failed to open netns "{call.netns}"', str(error)) from None
