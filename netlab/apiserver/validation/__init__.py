"""Checks of objects, one file per family of kinds, with upstream's fields, reasons and texts (pure)."""
