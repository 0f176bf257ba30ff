"""The programs inside the built-in image agnhost: small servers and probes that answer as upstream's do.

Subcommands, flags, paths and answers are those of kubernetes/kubernetes, test/images/agnhost, so that public manifests
and tests run unchanged; `echo-server` and `load` are netlab's own.
"""
