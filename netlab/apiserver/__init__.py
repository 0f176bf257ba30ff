"""kube-apiserver: the one door to the store; REST, watch, admission, discovery."""
