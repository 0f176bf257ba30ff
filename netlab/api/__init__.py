"""Kubernetes' API as data, pure: no clock, no dice, no environment, no input or output.

An object is the plain JSON dict that went over the wire, with every field kept (`Object`). Components read it through
small views (`views/`); the API server writes it through the machinery beside them (selectors, quantities, patches,
the protobuf and OpenAPI tables).
"""
