"""Streams between a client and a container: exec, attach and port-forward, over WebSocket or SPDY/3.1.

What carries them (`websocket`, `spdy`) is apart from what is carried (`remote`, `forward`). The API server only pipes
the upgraded bytes, so a client speaks with this code directly.
"""
