"""Container Network Interface: the plugins, and how a runtime invokes them (spec 0.3.1 to 1.1.0)."""
