"""The stand-ins have the shape of the real libraries: names, arguments, defaults, enum values, error classes.

`gpiod` is compared with the installed package. RPi.GPIO is C code that imports only on a Raspberry Pi: there its
published type stubs are the measure.
"""

import ast
import importlib.metadata
import inspect
from enum import Enum

import fake_gpiod
import fake_rpi_gpio
import gpiod
import pytest

CLASSES = ("Chip", "LineRequest", "LineSettings", "ChipInfo", "ChipClosedError", "RequestReleasedError")
OWN_METHODS = {"queue_edge"}


def shape(function: object) -> list[tuple[str, object, object]]:
    return [
        (name, parameter.kind, _plain(parameter.default))
        for name, parameter in inspect.signature(function).parameters.items()  # type: ignore[arg-type]
    ]


def _plain(value: object) -> object:
    return (type(value).__name__, value.value) if isinstance(value, Enum) else value


@pytest.mark.parametrize("name", CLASSES)
def test_gpiod_classes(name: str) -> None:
    real, fake = getattr(gpiod, name), getattr(fake_gpiod, name)
    assert shape(fake) == shape(real)
    for member, value in vars(fake).items():
        if member.startswith("_") or member in OWN_METHODS:
            continue
        assert hasattr(real, member) or member in real.__dataclass_fields__, f"{name}.{member} is not in the real one"
        if inspect.isfunction(value):
            assert shape(value) == shape(getattr(real, member)), f"{name}.{member}"
        elif isinstance(value, property):
            assert isinstance(vars(real)[member], property)


@pytest.mark.parametrize("name", ["Value", "Direction", "Bias", "Drive", "Edge", "Clock"])
def test_gpiod_enums(name: str) -> None:
    real, fake = getattr(gpiod.line, name), getattr(fake_gpiod.line, name)
    assert {m.name: m.value for m in fake} == {m.name: m.value for m in real}


def test_gpiod_truth_of_values_and_requests() -> None:
    assert [bool(value) for value in gpiod.line.Value] == [bool(value) for value in fake_gpiod.Value]
    assert inspect.isfunction(gpiod.LineRequest.__bool__)


def stubs() -> dict[str, ast.stmt]:
    files = importlib.metadata.files("types-RPi.GPIO") or []
    stub = next(file for file in files if file.match("*/GPIO/__init__.pyi"))
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def stub_shape(function: ast.FunctionDef) -> list[tuple[str, object, object]]:
    positional = [(arg.arg, inspect.Parameter.POSITIONAL_ONLY) for arg in function.args.posonlyargs]
    positional += [(arg.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD) for arg in function.args.args]
    defaults = [ast.literal_eval(default) for default in function.args.defaults]
    missing = [inspect.Parameter.empty] * (len(positional) - len(defaults))
    return [(name, kind, value) for (name, kind), value in zip(positional, missing + defaults, strict=True)]


@pytest.mark.parametrize(
    "name", ["setmode", "setwarnings", "setup", "output", "input", "add_event_detect", "remove_event_detect", "cleanup"]
)
def test_rpi_gpio_functions(name: str) -> None:
    node = stubs()[name]
    assert isinstance(node, ast.FunctionDef)
    assert shape(getattr(fake_rpi_gpio, name)) == stub_shape(node)


@pytest.mark.parametrize(
    "name",
    ["BOARD", "BCM", "OUT", "IN", "LOW", "HIGH", "PUD_OFF", "PUD_DOWN", "PUD_UP", "RISING", "FALLING", "BOTH"],
)
def test_rpi_gpio_constants(name: str) -> None:
    node = stubs()[name]
    assert isinstance(node, ast.AnnAssign)
    if node.value is not None:
        expected = ast.literal_eval(node.value)
    else:  # `HIGH: Literal[1]`
        assert isinstance(node.annotation, ast.Subscript)
        expected = ast.literal_eval(node.annotation.slice)
    assert getattr(fake_rpi_gpio, name) == expected
