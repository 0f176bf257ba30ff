"""The kubelet: makes one node's containers match the Pods bound to it, and reports what it sees."""
