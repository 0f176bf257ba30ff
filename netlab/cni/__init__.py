"""Container Network Interface: the plugins, and how a runtime invokes them (spec 0.1.0 to 1.1.0).

`skel` is a plugin's side of the contract (environment and standard input in, JSON and exit code out), `invoke` the
runtime's. The plugins bridge, host-local, loopback and portmap take the options of the reference plugins
(containernetworking/plugins) and keep the same files and rules, so that either can clean up after the other; what a
plugin does not support it refuses by name. Modules a plugin imports stay free of dataclasses, logging and asyncio: an
executable's start-up is most of what an ADD costs.
"""
