"""kube-proxy: Services as rules in the kernel of one node.

`services`, `endpoints` and `topology` read API objects; `rules` says what one Service port needs, `layout` what every
node has, `plan` puts both together and cuts the difference from what the kernel holds into restore texts. All of these
are pure. `proxier` writes the texts, one per address family; `sync` feeds the proxiers from the API server and decides
when; `health`, `service_health` and `metrics` answer on HTTP. nftables mode has the same parts under `nft_*` names;
what the modes share of a proxier is in `family`.

Chains, rules and comments are those of kube-proxy v1.36 (kubernetes: pkg/proxy/iptables and pkg/proxy/nftables), so
that either program can take over from the other on a running node.
"""
