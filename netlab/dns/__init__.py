"""The cluster's DNS server, after CoreDNS: a chain of plugins behind one socket."""
