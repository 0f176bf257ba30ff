"""CEL, the Common Expression Language of validation rules and admission policies, with Kubernetes' own functions.

`ast` reads a text (the parser is cel-expr-python's, the C++ implementation), `check` finds types and what is wrong with
them, `cost` says what evaluation costs at worst, `evaluate` evaluates and counts. The library could check and evaluate,
too, but knows neither schemas nor costs, which decide at admission what is accepted, stops at ten thousand rounds, and
lets memory grow. Tests compare its answers with those given here.

Functions: `standard` (the language's), `text`, `kubernetes`, `network`, `authorizer`:
https://kubernetes.io/docs/reference/using-api/cel/.
"""

from netlab.apiserver.cel.ast import CelError
from netlab.apiserver.cel.environment import (
    OBJECT,
    PATCHES,
    Environment,
    Program,
    WrongType,
    compile_dynamic,
    plain,
)
from netlab.apiserver.cel.run import OUT, Budget, OutOfBudget, Patience
from netlab.apiserver.cel.values import Lazy, Optional, duration, timestamp

__all__ = ["OBJECT", "OUT", "PATCHES", "Budget", "CelError", "Environment", "Lazy", "Optional", "OutOfBudget",
           "Patience", "Program", "WrongType", "compile_dynamic", "duration", "plain", "timestamp"]
