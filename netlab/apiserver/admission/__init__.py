"""Admission: the steps between a well-formed request and the store, in upstream's order, each in its own file."""
