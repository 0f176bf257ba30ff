"""Who asks (authentication, one file per way in) and whether they may (`authorize.py`)."""
