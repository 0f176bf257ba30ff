"""Priority and fairness: which FlowSchema a request belongs to, and which priority level that has.

The answer names both, in headers (X-Kubernetes-Pf-…). No request waits here: one process that has
one thread takes them one after another anyway.
https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""
