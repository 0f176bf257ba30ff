"""How an object is changed by part of one: merge, JSON and strategic merge patches, and server-side apply.

No function here changes its arguments. A result shares what stayed the same with the target: copy before writing to it.
"""
