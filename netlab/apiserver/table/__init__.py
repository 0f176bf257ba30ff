"""Printer columns: what `kubectl get` shows of each kind is made here, cell by cell, as upstream's server does."""

from netlab.apiserver.table.columns import Columns
from netlab.apiserver.table.registry import columns

__all__ = ["Columns", "columns"]
