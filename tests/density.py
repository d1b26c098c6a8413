"""How dense the code is: `python tests/density.py [FOLDER ...]` prints a row for each wing.

A code line is one that is not blank, a comment or part of a docstring. Names are the names and
attributes of the syntax tree. A function's length is the number of its code lines, decorators and
signature included.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "lttlib"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
PAIRED = (ast.Constant, ast.Name, ast.Subscript)  # `mean, deviation = row["mean"], row["std"]`
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstring_lines(tree):
    """Numbers of the lines that docstrings take."""
    numbers = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            numbers.update(range(text.lineno, text.end_lineno + 1))
    return numbers


def code_lines(source, tree):
    """Numbers of the code lines."""
    numbers = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped and token.type != tokenize.ENDMARKER:
            numbers.update(range(token.start[0], token.end[0] + 1))
    lines = source.splitlines()
    numbers = {number for number in numbers if lines[number - 1].strip()}
    return numbers - docstring_lines(tree)


def comment_lines(source):
    """Numbers of the lines that have a comment, alone or behind code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def unexplained(function, code, comments):
    """Most statements of a function, one after the other, without a comment among them."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    starts = {
        node.lineno
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.stmt) and node.lineno in code
    }
    longest = run = 0
    for number in range(body[0].lineno if body else 0, function.end_lineno + 1):
        run = 0 if number in comments else run
        run += number in starts
        longest = max(longest, run)
    return longest


def shapes(path):
    """Yield (line, what) of shapes of code that hold more than one thought a line."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > 4:
            if getattr(node.func, "id", "") not in ("print", "zip", "min", "max"):
                yield node.lineno, "more than four positional arguments"
        if isinstance(node, COMPREHENSIONS):
            inner = [child for child in ast.walk(node) if isinstance(child, COMPREHENSIONS)]
            if len(inner) > 1:
                yield node.lineno, "a comprehension in another"
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = getattr(node.value, "elts", [])
            if not all(isinstance(value, PAIRED) for value in values):
                yield node.lineno, "several assignments in one"


def measure(paths):
    """Figures of some files together.

    Returns
    -------
    dict: lines; code (lines); mean and longest (characters of a code line); wide (code lines over
    100 characters); names (per code line); comments (lines of their own, per 100 code lines);
    functions, a list of (code lines, name, line number, path), the longest first; silent, the same
    for functions of more than 20 code lines, with statements in a row that no comment explains.
    """
    lines, names, comments = 0, 0, 0
    lengths = []
    functions = []
    silent = []
    for path in paths:
        source = Path(path).read_text(encoding="utf-8")
        tree = ast.parse(source)
        text = source.splitlines()
        code = code_lines(source, tree)
        lines += len(text)
        lengths += [len(text[number - 1].rstrip()) for number in code]
        comments += sum(line.lstrip().startswith("#") for line in text)
        commented = comment_lines(source)
        for node in ast.walk(tree):
            names += isinstance(node, ast.Name | ast.Attribute)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own = code & set(range(node.lineno, node.end_lineno + 1))
                functions.append((len(own), node.name, node.lineno, Path(path)))
                if len(own) > 20:
                    run = unexplained(node, code, commented)
                    silent.append((run, node.name, node.lineno, Path(path)))
    return {
        "lines": lines,
        "code": len(lengths),
        "mean": sum(lengths) / max(len(lengths), 1),
        "longest": max(lengths, default=0),
        "wide": sum(length > 100 for length in lengths),
        "names": names / max(len(lengths), 1),
        "comments": 100 * comments / max(len(lengths), 1),
        "functions": sorted(functions, key=lambda row: (-row[0], row[1])),
        "silent": sorted(silent, key=lambda row: (-row[0], row[1])),
    }


def wings(library):
    """Files of each wing by its name, those of the library's own folder last, and all together."""
    groups = {}
    for path in sorted(Path(library).rglob("*.py")):
        parts = path.relative_to(library).parts
        groups.setdefault(parts[0] if len(parts) > 1 else "(front)", []).append(path)
    groups["all"] = sorted(Path(library).rglob("*.py"))
    return groups


def main(libraries):
    """Print the figures of libraries, and their longest functions."""
    for library in libraries:
        print(library)
        print("wing           lines  code  mean  longest  wide  names  comments  longest function")
        for wing, paths in wings(library).items():
            row = measure(paths)
            length, name, _, _ = (row["functions"] or [(0, "-", 0, "")])[0]
            sizes = f"{row['lines']:6}{row['code']:6}{row['mean']:6.1f}{row['longest']:9}"
            shares = f"{row['wide']:6}{row['names']:7.2f}{row['comments']:10.1f}"
            print(f"{wing:14}{sizes}{shares}  {length} ({name})")
        library_figures = measure(wings(library)["all"])
        for key in ("functions", "silent"):
            print(key)
            for length, name, number, path in library_figures[key][:12]:
                print(f"{length:4} {Path(path).relative_to(library)}:{number} {name}")


if __name__ == "__main__":
    main(sys.argv[1:] or [LIBRARY])
