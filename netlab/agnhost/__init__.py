"""The programs inside the built-in images: small servers and probes that answer as upstream's agnhost does."""
