"""The verbs of the resource API, one file each; all take a `Call`."""
