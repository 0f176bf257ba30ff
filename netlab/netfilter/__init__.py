"""iptables as data, pure: rules, chains and tables, their text both ways, and the walk of a packet through them."""
