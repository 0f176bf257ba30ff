"""etcdctl: the commands that one looks into a store with, for machines that have no etcdctl of their own.

`main` finds out which server, which API and whether the real program is there; `v3` and `v2` have the commands.
"""
