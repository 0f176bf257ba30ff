"""The only floor that touches the kernel: netlink, netfilter, namespaces, mounts, processes.

It knows links, addresses, rules and pids; it has never heard of Pods. Foreign errors (OSError, pyroute2's, a tool's
exit code) become `netlab.errors.KernelError` here.
"""
