"""The node's network agent: CNI configuration, routes to the other nodes, masquerade of what leaves the cluster."""
