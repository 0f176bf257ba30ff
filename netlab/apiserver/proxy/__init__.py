"""What the API server passes on: to kubelets (logs, exec, attach, port-forward, node proxy), Pods and Services."""
