"""kube-scheduler: binds each Pod to the node that fits it best."""
