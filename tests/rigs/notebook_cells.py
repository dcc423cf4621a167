"""Runs cells one after the other in one namespace, as a kernel does; shows what ends a cell.

    python notebook_cells.py '["cell", …]'

Cells are texts of documents, and what a test puts between them.
"""

import ast
import gc
import json
import sys
import warnings

gc.disable()  # ``Gateway.__del__`` must not run in its own loop
warnings.simplefilter("ignore")
names = {"__name__": "__main__"}
for number, cell in enumerate(json.loads(sys.argv[1])):
    tree = ast.parse(cell, f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:
        shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        display = getattr(shown, "_ipython_display_", None)
        if display is not None:
            display()  # the widget
        elif shown is not None:
            print(shown, flush=True)
