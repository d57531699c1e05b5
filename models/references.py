"""The references of a file of hyperparameters, resolved as HyperPyYAML resolves them, and within bounds.

HyperPyYAML's own counts `9**9**9` to its end and repeats a text half a milliard times, if that is what it is asked for;
and what a value puts into a reference is an expression, too. It must not know which classes are harmless.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any, Final

REFERENCE: Final = re.compile(r"<[A-Za-z_]\w*(\[\w+\])*>")  # a dot would be getattr
MAX_CHARACTERS: Final = 1_000  # of what one reference comes to, where that is a text
MAX_ALL_CHARACTERS: Final = 2**16  # and of what all of them come to

_ARITHMETIC: Final = re.compile(r"[\d\seE.()+*/-]+")
_OPERATORS: Final[Mapping[type[ast.AST], Callable[..., int | float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def resolved(text: str) -> str:
    """Return hyperparameters with each `!ref` replaced by what it names, and its arithmetic done.

    Raises:
        ValueError: A reference names nothing or too much, or asks for more than `+ - * / //` of numbers.
        YAMLError: It is no YAML; ruamel raises others as well for what it did not expect.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415  only where something is loaded

    yaml, written = YAML(), StringIO()
    tree = yaml.load(text)
    _Resolver(tree).resolve(tree)
    yaml.dump(tree, written)
    return written.getvalue()


class _Resolver:
    """Resolves the references of one tree, in the order of the file."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree
        self._room = MAX_ALL_CHARACTERS

    def resolve(self, node: Any) -> Any:
        """Return what takes the place of a node: the node itself, with all below it resolved, or what it refers to."""
        from ruamel.yaml.comments import TaggedScalar  # noqa: PLC0415  likewise

        if isinstance(node, dict | list):
            for place, below in list(node.items() if isinstance(node, dict) else enumerate(node)):
                node[place] = self.resolve(below)
        elif isinstance(node, TaggedScalar) and node.tag.value == "!ref":
            return self._referred(str(node.value))
        return node

    def _referred(self, reference: str) -> Any:
        if REFERENCE.fullmatch(reference):
            found = self._named(reference)
        else:
            found = REFERENCE.sub(lambda name: _written(self._named(name[0]), name[0]), reference)
        if isinstance(found, str):
            self._room -= len(found)
            if len(found) > MAX_CHARACTERS or self._room < 0:
                raise ValueError(
                    f"the reference {reference[:60]!r} comes to {len(found)} characters: one may come to "
                    f"{MAX_CHARACTERS}, and all of them to {MAX_ALL_CHARACTERS}"
                )
        return found if REFERENCE.fullmatch(reference) else _counted(found)

    def _named(self, name: str) -> Any:
        found = self._tree
        for key in name.strip("<>").replace("]", "").split("["):
            if not isinstance(found, dict) or key not in found:
                raise ValueError(f"the reference {name[:60]} names nothing")
            found = found[key]
        return found


def _written(value: Any, name: str) -> str:
    """Return a value as it is put into a text."""
    if not isinstance(value, str | int | float):
        raise ValueError(f"the reference {name[:60]} is put into a text, and names neither a text nor a number")
    return str(value)


def _counted(text: str) -> str | int | float:
    """Return the number that a text comes to where it is arithmetic, and the text itself where it is not."""
    if not _ARITHMETIC.fullmatch(text):
        return text
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return text
    return _value(expression, text)


def _value(node: ast.AST, text: str) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value(node.operand, text))
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value(node.left, text), _value(node.right, text))
    raise ValueError(f"the reference that comes to {text[:60]!r} is more than + - * / // of numbers")
