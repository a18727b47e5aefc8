from __future__ import annotations

import inspect
import subprocess
import sys
from collections import defaultdict
from dataclasses import fields

import codedmap as cm
from codedmap.api.map import Options

FACE = """
map stream amap astream fill sum sweep command plan itemwise Pool JoblibBackend CodedMatrix CodedParts OnnxModel
FillResult MapResult MatrixResult Plan Status SumResult SweepResult
Deadline Decodable Everyone Hedge Limits Outcome Quorum Share Slower Tolerance
BerrutCode KernelCode LagrangeCode Replication SplineCode Uncoded
CodedmapError EngineError InvalidAnswer InvalidArgument NotEnoughAnswers WorkerCrashed
""".split()
MODULES = (
    "codes contracts engines errors estimation latency results testing topology training".split()
)


def test_the_face_is_exactly_what_is_meant():
    assert sorted(cm.__all__) == sorted(FACE + MODULES)
    rooms = {"api", "coding", "detection", "execution", "matrices", "planning", "storage", "sums"}
    assert {name for name in vars(cm) if not name.startswith("_")} <= {*cm.__all__, *rooms, "cli"}


def test_an_argument_has_one_default_wherever_it_is_taken():
    defaults = defaultdict(set)
    for taken in (cm.map, cm.sweep, cm.Pool, cm.JoblibBackend, cm.plan, cm.fill):
        for name, parameter in inspect.signature(taken).parameters.items():
            defaults[name].add(parameter.default)
    for option in fields(Options):  # of stream, amap and astream
        if option.name in defaults:
            defaults[option.name].add(option.default)
    for name in ("seed", "engine"):  # which some need
        del defaults[name]
    assert {name: found for name, found in defaults.items() if len(found) > 1} == {}


def test_every_public_object_says_where_it_is_public():
    for name in FACE:
        assert getattr(cm, name).__module__ == "codedmap", name
    for module in MODULES:
        public = getattr(cm, module)
        for name in set(public.__all__) - set(FACE):
            assert getattr(public, name).__module__ == f"codedmap.{module}", name


def test_every_public_object_is_documented():
    for module in (cm, *(getattr(cm, name) for name in MODULES)):
        for name in module.__all__:
            thing = getattr(module, name)
            assert inspect.getdoc(thing), name
            if inspect.isclass(thing):
                for method, value in vars(thing).items():
                    if inspect.isfunction(value) and not method.startswith("_"):
                        assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"


def test_every_error_is_the_librarys_and_what_people_catch():
    errors = [getattr(cm.errors, name) for name in cm.errors.__all__]
    assert len(errors) == 18
    assert all(issubclass(error, cm.CodedmapError) for error in errors)
    assert issubclass(cm.InvalidArgument, ValueError)
    assert issubclass(cm.InvalidAnswer, ValueError)
    assert issubclass(cm.errors.NotEnoughMemory, MemoryError)
    assert issubclass(cm.errors.CannotSend, TypeError)


def test_importing_it_imports_no_large_part_of_other_libraries():
    optional = "pandas xarray joblib sklearn matplotlib rich click distributed ray zarr pyarrow onnxruntime"
    large = [f"scipy.{part}" for part in ("linalg", "sparse", "special", "optimize", "spatial")]
    code = f"import codedmap, sys; print(*{{*sys.modules}} & {{*{[*optional.split(), *large]}}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
