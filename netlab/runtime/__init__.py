"""The container runtime of a node: what containerd, runc and the sandbox image are elsewhere, in one process.

A node is a fork of the warm template that makes itself namespaces and a root file system (`node`) and stays as their
pid 1: the shim. It owns what must outlive a kubelet (sandboxes, containers, terminals, logs, exit codes) and answers
calls in the words of the Container Runtime Interface (`cri`) over a Unix socket (`wire`, `shim`, `shimclient`). The
kernel does the rest of the book-keeping: when the shim dies, its PID and mount namespaces take everything along.

A Pod is a set of namespaces that the shim makes and a pause process holds (`sandbox`, `pause`). A container is a fork
that builds its root out of mounts and then execs, or calls one of our programs, which is in memory already
(`container`, `launch`). Images are the host's own files or unpacked archives (`image`, `archive`, `rootfs`).
"""
