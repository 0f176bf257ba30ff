"""The scheduler's rules, one file each: what rules a node out, and what makes one better than another.

A plugin sees a Pod and the cluster as they are and changes nothing. Names, reasons and weights are upstream's
(k8s:pkg/scheduler/framework/plugins), so that `kubectl describe pod` reads the same.
"""
