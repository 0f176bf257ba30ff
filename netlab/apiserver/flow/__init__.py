"""Priority and fairness: which FlowSchema a request belongs to, which priority level that has, and when it may go on.

`match` finds the schema, `shares` says how many seats each level has, `level` is one with its queues, `gate` lets in,
and `keeper` holds them to the objects that the API has of them.
https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""
