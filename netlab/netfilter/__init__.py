"""iptables as data: what a rule says, independent of who wrote it and of how it is spelled.

A rule keeps the words it came with (`model`), so that text read and written again is the same text; what it means is
worked out on demand (`terms`), compared whatever the spelling (`normalise`), and asked where a packet goes (`walk`).
Nothing here runs a program or looks at the machine.
"""
