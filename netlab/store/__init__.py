"""The store: a log of revisions with the etcd contract, on SQLite."""
