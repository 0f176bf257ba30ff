"""The container runtime: a shim per node, sandboxes held by pause processes, containers, images, streams."""
