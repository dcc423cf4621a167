"""Makes the one file that travels with each job out of this package's modules.

A job's environment has nothing of ours, so what runs there must be one file; a file of 1,300 lines
is no place to work in. So the agent is written as modules that import each other, and sent as
their text in order, without those imports. Simpler ways lose something: a zip file starts slower
and cannot be read where it failed, and several files could be taken apart.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

PACKAGE = "penstock.agent"


def bundle(sources: Sequence[str]) -> str:
    """One program out of modules of this package, given in an order in which they can run.

    Imports from this package are left out, as the names are there by then. Raises ValueError when
    two modules give different things one name, or an import renames what it takes.
    """
    taken: set[str] = set()
    parts = []
    for source in sources:
        tree = ast.parse(source)
        clash = taken & (names := set(_defined(tree)))
        if clash:
            raise ValueError(f"defined twice in the agent: {', '.join(sorted(clash))}")
        taken |= names
        parts.append(_without_own_imports(source, tree))
    return "\n\n".join(parts)


def _defined(tree: ast.Module) -> list[str]:
    """The names of functions, classes and constants at the top of a module."""
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
    return found


def _without_own_imports(source: str, tree: ast.Module) -> str:
    lines = source.splitlines()
    for node in reversed(tree.body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            if any(alias.asname for alias in node.names):
                raise ValueError(f"an import in the agent renames what it takes: {node.module}")
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines).strip() + "\n"
