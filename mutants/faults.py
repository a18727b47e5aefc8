"""Where a file can be made wrong by one small change, and the file with it."""

from __future__ import annotations

import ast
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OTHER = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",),
    "!=": ("==",), "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",),
    "and": ("or",), "or": ("and",), "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",),
    "//": ("*",), "%": ("*",), "**": ("*",), "&": ("|",), "|": ("&",),
    "+=": ("-=",), "-=": ("+=",), "*=": ("/=",), "/=": ("*=",), "&=": ("|=",), "|=": ("&=",),
}  # fmt: skip
_OPERATOR = re.compile(rb"(?:[()\s]|#.*\n)*(not\s+in|is\s+not|[^\s()]+)")
_LEFT_OUT = ast.JoinedStr | ast.Raise | ast.Assert  # texts for people, and types for mypy
_TEXTS = {"__repr__", "__str__", "_repr_html_"}
_OPTIONS = {"copy", "strict", "stacklevel"}  # of calls, without a consequence in a right program
_AXES = {"axis", "axis1", "axis2"}  # likewise places in a shape: numpy refuses most wrong ones
_GUARD = 1e-100  # smaller numbers only keep a division from failing


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of a file. ``nth`` counts the same change of the same line in it."""

    path: Path
    line: int
    before: str
    after: str
    source: str
    nth: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by when lines and folders have moved."""
        return self.path.name, self.before, self.after

    def draw(self, seed: int) -> str:
        """A random number, the same as long as the line is, in whichever file: the least are drawn."""
        return hashlib.sha256(repr((seed, *self.key[1:], self.nth)).encode()).hexdigest()


def faults(path: Path, text: str) -> Iterator[Fault]:
    """Every fault that this file can be given."""
    source = text.encode()  # ast counts columns in bytes
    starts = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    seen: Counter[tuple[str, str]] = Counter()
    body = [part for part in ast.parse(text).body if not _is_setting(part)]
    for node in itertools.chain.from_iterable(map(_nodes, body)):
        for begin, end, new in _changes(node, source, starts):
            # Lines keep their numbers.
            kept = new.encode() + b"\n" * source[begin:end].count(b"\n")
            changed = (source[:begin] + kept + source[end:]).decode()
            line = source[:begin].count(b"\n")
            before, after = (" ".join(s.split("\n")[line].split()) for s in (text, changed))
            yield Fault(path, line + 1, before, after, changed, seen[before, after])
            seen[before, after] += 1


def _is_setting(node: ast.stmt) -> bool:
    """Whether it is a named constant: benchmarks and experiments judge what those are good for."""
    return isinstance(node, ast.Assign | ast.AnnAssign) and not isinstance(node.value, ast.Call)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below, without texts, types and options that change nothing."""
    if isinstance(node, _LEFT_OUT) or getattr(node, "name", "") in _TEXTS:
        return
    if isinstance(node, ast.keyword) and node.arg in _OPTIONS | _AXES:
        return
    if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "shape":
        return
    yield node
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return  # of -1 only the sign is changed: to numpy's reshape -2 is the same
    for name, value in ast.iter_fields(node):
        if name not in {"annotation", "returns", "decorator_list", "bases"}:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _nodes(child)


def _changes(node: ast.AST, source: bytes, starts: list[int]) -> Iterator[tuple[int, int, str]]:
    """Begin, end and new text of each change of this node itself."""
    for left, right in _operands(node):
        begin = starts[left.end_lineno - 1] + left.end_col_offset
        end = starts[right.lineno - 1] + right.col_offset
        found = _OPERATOR.match(source, begin, end)
        if found is not None:
            operator = " ".join(found[1].decode().split())
            yield from ((*found.span(1), new) for new in _OTHER.get(operator, ()))
    if not isinstance(node, ast.expr | ast.stmt):
        return
    begin = starts[node.lineno - 1] + node.col_offset
    end = starts[node.end_lineno - 1] + node.end_col_offset
    match node:
        case ast.UnaryOp(op=ast.Not()):
            yield begin, begin + len("not "), ""
        case ast.UnaryOp(op=ast.USub()):
            yield begin, begin + len("-"), ""
        case ast.Constant(value=bool()):
            yield begin, end, str(not node.value)
        case ast.Constant(value=int()):
            yield from ((begin, end, str(node.value + step)) for step in (1, -1)[: node.value + 1])
        case ast.Constant(value=float()) if node.value == 0.0 or node.value > _GUARD:
            yield begin, end, repr(2.0 * node.value or 1.0)
        case ast.Break() | ast.Continue():
            yield begin, end, "continue" if isinstance(node, ast.Break) else "break"
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield begin, end, "pass"
        case ast.AugAssign() if not _is_text(node.value):
            yield begin, end, "pass"


def _operands(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Pairs with an operator between them that is no matter of texts or types."""
    match node:
        case ast.Compare():
            yield from itertools.pairwise([node.left, *node.comparators])
        case ast.BoolOp():
            yield from itertools.pairwise(node.values)
        case ast.BinOp() if not _is_text(node) and not _is_type(node):
            yield node.left, node.right
        case ast.AugAssign() if not _is_text(node.value):
            yield node.target, node.value


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    if isinstance(node, ast.IfExp):
        return _is_text(node.body)
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _is_type(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr) and any(
        isinstance(side, ast.Subscript) or (isinstance(side, ast.Constant) and side.value is None)
        for side in (node.left, node.right)
    )
