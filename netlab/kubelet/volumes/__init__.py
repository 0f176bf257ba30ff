"""Volumes: what goes into them (`payload`, pure), how it gets there (`atomic`, `setup`), and where containers see it
(`mounts`).

Everything of a Pod lies in ROOT/pods/UID/volumes/kubernetes.io~KIND/NAME, as upstream, so that a restarted kubelet
finds it again and removing one directory ends it. ROOT/pods is a file system in memory: upstream keeps secrets off the
disk too, and small files are a large part of a Pod's start (ext4 takes longer for them than the kernel for a network).
An emptyDir may grow, so it lies on the disk, in ROOT/empty-dirs/UID/NAME, and a link leads there.
"""
