"""kube-proxy: Services and EndpointSlices become rules in the kernel."""
