"""What the outside sees of a store: etcd's v3 gRPC API and its older v2 keys API (read-only), on one port.

`listener` accepts connections and tells the two apart; `v3` serves gRPC with `kv`, `watch`, `lease` and `admin`, `v2`
and `pages` serve HTTP. Nothing of gRPC is imported before somebody speaks it.
"""
