"""What the API server passes on: to kubelets (logs, exec, attach, port-forward, node proxy) and to Pods and Services."""
