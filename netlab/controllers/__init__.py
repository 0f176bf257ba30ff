"""kube-controller-manager: one loop per kind, each comparing what is with what was asked for."""
