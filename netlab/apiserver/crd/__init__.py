"""CustomResourceDefinitions: kinds that users add, served like the built-in ones (apiextensions.k8s.io/v1).

A definition holds an OpenAPI v3 schema per version. `structural` prunes and defaults by it, `values` checks values,
`rules` runs its CEL rules, `definition` judges definitions themselves; `strategy` and `columns` make a resource of a
version as the strategies and table columns of this server make of others; `keeper` follows the definitions in the store
and tells the catalog what to serve.
"""
