"""The forms of names, which the API machinery needs as well: see netlab.api.names."""

from __future__ import annotations

from netlab.api.names import (
    cidr,
    config_key,
    dns_1035_label,
    dns_label,
    dns_search,
    dns_subdomain,
    env_name,
    http_header,
    ip_address,
    label_value,
    path_segment,
    port_name,
    port_number,
    qualified_name,
    unix_id,
)

__all__ = [
    "cidr",
    "config_key",
    "dns_1035_label",
    "dns_label",
    "dns_search",
    "dns_subdomain",
    "env_name",
    "http_header",
    "ip_address",
    "label_value",
    "path_segment",
    "port_name",
    "port_number",
    "qualified_name",
    "unix_id",
]
