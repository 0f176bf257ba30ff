"""OpenAPI documents made from the schema table and the resource table: version 3 per group version, version 2 whole.

kubectl reads them for explain, validation, apply and diff. Without the optional package kubernetes-validate they have
no descriptions but of what all kinds have in common.
"""
