"""Volumes: what goes into them (`payload`, pure), how it gets there (`atomic`, `setup`), and where containers see it
(`mounts`).

Everything of a Pod lies in ROOT/pods/UID/volumes/kubernetes.io~KIND/NAME, as upstream, so that a restarted kubelet
finds it again and removing one directory ends it.
"""
