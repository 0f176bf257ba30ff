"""All plugins, in the order in which they filter."""

from __future__ import annotations

from netlab.scheduler.plugins.balanced import Balanced
from netlab.scheduler.plugins.base import Plugin
from netlab.scheduler.plugins.fit import Fit
from netlab.scheduler.plugins.image import ImageLocality
from netlab.scheduler.plugins.names import NodeName, NodeUnschedulable
from netlab.scheduler.plugins.node_affinity import NodeAffinity
from netlab.scheduler.plugins.pod_affinity import PodAffinity
from netlab.scheduler.plugins.ports import Ports
from netlab.scheduler.plugins.spread import Spread
from netlab.scheduler.plugins.taints import Taints

PLUGINS: tuple[Plugin, ...] = (NodeUnschedulable(), NodeName(), Taints(), NodeAffinity(), Ports(), Fit(), Spread(),
                               PodAffinity(), Balanced(), ImageLocality())
