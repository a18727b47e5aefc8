from __future__ import annotations

import inspect

import codedmap as cm

FACE = """
map stream waves Waves Totals sum itemwise MapResult plan Plan PlanRow
Uncoded Replication KernelCode Prior Known SplineCode BerrutCode LagrangeCode
Quorum Deadline Decodable Everyone Tolerance Hedge Outcome Progress StopRule
Code Encoding Estimate LinearCode OnnxModel
CodedMatrix MatrixCode MatrixResult MDSCode PolarCode
CodedParts SumCode SumResult IgnoreStragglers
FractionalRepetition CyclicGradientCode PolynomialGradientCode GroupedGradientCode
plan_cluster ClusterPlan Cluster LearningNode InformationNode Link ErrorModel
engines latency testing training
CodedmapError InvalidArgument Unreachable InvalidAnswer NotEnoughAnswers NotEnoughMemory CannotSend
EngineError MissingMainGuard WorkerLost WorkerCrashed Abandoned KeptLost
""".split()


def test_the_face_is_exactly_what_is_meant():
    assert sorted(cm.__all__) == sorted(FACE)
    visible = {name for name in vars(cm) if not name.startswith("_")}
    assert visible - {"codes"} == set(FACE)
    assert cm.engines.__all__ == [
        "Dask",
        "Engine",
        "FromExecutor",
        "Kept",
        "Local",
        "Ray",
        "Resident",
    ]


def test_every_public_object_says_where_it_is_public():
    for name in FACE:
        if name not in ("engines", "latency", "testing", "training"):
            assert getattr(cm, name).__module__ == "codedmap", name
    for name in cm.engines.__all__:
        assert getattr(cm.engines, name).__module__ == "codedmap.engines", name
    for name in cm.latency.__all__:
        assert getattr(cm.latency, name).__module__ == "codedmap.latency", name
    for name in cm.training.__all__:
        assert getattr(cm.training, name).__module__ == "codedmap.training", name


def test_every_public_object_is_documented():
    for module in (cm, cm.engines, cm.latency, cm.testing, cm.training):
        for name in module.__all__:
            thing = getattr(module, name)
            assert inspect.getdoc(thing), name
            if inspect.isclass(thing):
                for method, value in vars(thing).items():
                    if inspect.isfunction(value) and not method.startswith("_"):
                        assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"


def test_every_error_is_the_librarys_and_what_people_catch():
    errors = [getattr(cm, name) for name in FACE if isinstance(getattr(cm, name), type)]
    errors = [error for error in errors if issubclass(error, Exception)]
    assert len(errors) == 13
    assert all(issubclass(error, cm.CodedmapError) for error in errors)
    assert issubclass(cm.InvalidArgument, ValueError)
    assert issubclass(cm.InvalidAnswer, ValueError)
    assert issubclass(cm.NotEnoughMemory, MemoryError)
    assert issubclass(cm.CannotSend, TypeError)
