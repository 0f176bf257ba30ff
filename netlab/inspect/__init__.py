"""Kernel state explained in the words of the API: what a node's rules say of a Service, and what they count.

Everything here takes plain values, saved text and objects, and never fetches: the same functions read a lab's node, a
file from a production machine, or what a test made up.
"""
