"""What is in a Python file? A function to map over a whole library of them:

procoro map examples/source_stats.py:source_stats --glob "src/**/*.py" -o stats.jsonl
"""

import ast
import tokenize
import warnings
from collections.abc import Iterator

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
    ast.Assert,
)


def source_stats(path: str) -> dict[str, object]:
    """Count what one `.py` file defines, and name its most complex function.

    Raises:
        SyntaxError: the file is not Python of this interpreter, or its encoding is not known.
        UnicodeDecodeError: its bytes are not what its encoding promises.
    """
    with tokenize.open(path) as source:  # honours a byte order mark and `# -*- coding: ... -*-` (PEP 263)
        lines = source.readlines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in somebody else's strings are not our subject
        tree = ast.parse("".join(lines), filename=path)

    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    return {
        "path": path,
        "lines": len(lines),
        "functions": len(functions),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "most_complex": max(map(_weighed, functions), key=lambda f: f["complexity"], default=None),
        "imports": sorted({name for node in nodes for name in _imported(node)}),
    }


def _weighed(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str | int]:
    return {"name": function.name, "complexity": complexity(function)}


def complexity(function: ast.AST) -> int:
    """Cyclomatic complexity: one, and one more for every place where the way forks."""
    return 1 + sum(_forks(node) for node in ast.walk(function))


def _forks(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1  # `a and b and c` can leave early at two places
    return int(isinstance(node, BRANCHES))


def _imported(node: ast.AST) -> Iterator[str]:
    """The top-level packages that an import statement names; relative imports name none."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]
