"""etcd's v3 gRPC protocol: its messages as Python values, their bytes, and a client.

`messages` has what etcdserverpb and mvccpb define, `codec` turns them into protobuf's bytes and back, `client` speaks
to a server. gRPC itself is grpclib's, which only `client` and the server in `faces` import.
"""
