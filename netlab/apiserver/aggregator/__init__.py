"""APIServices: group versions that another server answers, behind a Service of the cluster (kube-aggregator).

`keeper` follows the APIServices in the store, asks the servers behind them whether they are there and what they serve,
and registers this server's own group versions as local ones; `proxy` passes requests on, with the user in headers.
"""
