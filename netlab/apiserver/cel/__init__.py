"""CEL, the Common Expression Language of validation rules and admission policies, with Kubernetes' own functions.

Parsing, checking and evaluation are cel-expr-python's (the C++ implementation); `environment` adds what Kubernetes has
besides: https://kubernetes.io/docs/reference/using-api/cel/. Values of types that only Kubernetes has (quantities,
addresses, URLs) are maps with a mark inside of an expression. Comprehensions of two variables are not known.
"""

from netlab.apiserver.cel.environment import CelError, Program, compile_, duration, timestamp

__all__ = ["CelError", "Program", "compile_", "duration", "timestamp"]
