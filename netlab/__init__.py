"""netlab: Kubernetes' inside on one Linux machine, with nothing faked below the API."""

__version__ = "0.1.0"
