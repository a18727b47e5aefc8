"""An ONNX model as a function from batch to batch."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgument

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxModel:
    """An ONNX model with one input, opened at its first call in each process, with one thread.

    Needs ``pip install codedmap[onnx]``. It is pickled as its source, so wrap it in a
    `codedmap.engines.Resident` to open it once per worker and not once per call.

    Parameters
    ----------
    source : path or bytes
        The model file, or its content for workers that cannot read the file.
    output : str, optional
        Which of the model's outputs is the answer; by default the first.

    Raises
    ------
    InvalidArgument
        If there is no such file. A file that is no model, or a model with several inputs or without such an output,
        raises when it is opened: at the first call, or by `check`.
    """

    def __init__(self, source: str | Path | bytes, output: str | None = None) -> None:
        if not isinstance(source, bytes):
            source = str(source)
            if not Path(source).is_file():
                raise InvalidArgument(f"there is no model file {source!r}: check the path")
        self._source = source
        self._output = output

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Answers (b, *y) to a batch (b, *x)."""
        self.check(batch.shape, batch.dtype)
        batch = np.ascontiguousarray(batch)
        if self._batch_size is None or len(batch) == self._batch_size:
            return self._run(batch)
        # A model with a fixed batch size: whole batches, the last one padded with its last row.
        answers = []
        for begin in range(0, len(batch), self._batch_size):
            part = batch[begin : begin + self._batch_size]
            padding = part[-1:].repeat(self._batch_size - len(part), axis=0)
            answers.append(self._run(np.concatenate([part, padding])))
        return np.concatenate(answers)[: len(batch)]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the model's input."""
        kind = self._input.type
        if kind not in _DTYPES:
            raise InvalidArgument(
                f"{self._name} takes {kind}, which cannot be mixed: export it without its embedding layer, "
                "so that it takes floating point"
            )
        return np.dtype(_DTYPES[kind])

    def check(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Open the model and raise `InvalidArgument` unless it takes inputs (rows, *x) of this dtype."""
        wanted = self._input.shape
        fits = len(shape) == len(wanted) and all(
            not isinstance(want, int) or want == size
            for want, size in zip(wanted[1:], shape[1:], strict=True)
        )
        if not fits:
            form = ", ".join("any" if not isinstance(size, int) else str(size) for size in wanted)
            raise InvalidArgument(
                f"{self._name} takes inputs of shape ({form}), but these are {shape}: reshape them, "
                "the first axis counts the rows"
            )
        if np.dtype(dtype) != self.dtype:
            raise InvalidArgument(
                f"{self._name} takes {self.dtype}, but these inputs are {np.dtype(dtype)}: cast them "
                f"(and scale them as in training) with inputs.astype(np.{self.dtype})"
            )

    def __getstate__(self) -> dict[str, Any]:
        # With the checksum, a job is not resumed with another model of the same path.
        return {"_source": self._source, "_output": self._output, "_checksum": self._checksum}

    @cached_property
    def _checksum(self) -> str:
        """Of the file; empty if its content is the source."""
        if isinstance(self._source, bytes):
            return ""
        with Path(self._source).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()

    @property
    def _name(self) -> str:
        return "the model" if isinstance(self._source, bytes) else Path(self._source).name

    @cached_property
    def _session(self) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise InvalidArgument(
                "ONNX models need ONNX Runtime: pip install 'codedmap[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                self._source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exceptions have no common base
            raise InvalidArgument(
                f"{self._name} cannot be opened as an ONNX model ({error}): export it again, or update onnxruntime"
            ) from error
        if len(session.get_inputs()) != 1:
            names = ", ".join(node.name for node in session.get_inputs())
            raise InvalidArgument(
                f"{self._name} has {len(session.get_inputs())} inputs ({names}), but a model to map "
                "has one: export it with the others fixed"
            )
        outputs = [node.name for node in session.get_outputs()]
        if self._output not in (None, *outputs):
            raise InvalidArgument(
                f"{self._name} has no output {self._output!r}; it has {', '.join(outputs)}: name one of these"
            )
        return session

    @property
    def _input(self) -> Any:
        return self._session.get_inputs()[0]

    @property
    def _batch_size(self) -> int | None:
        rows = self._input.shape[0]
        return rows if isinstance(rows, int) else None

    def _run(self, batch: np.ndarray) -> np.ndarray:
        names = [self._output] if self._output is not None else None
        return np.asarray(self._session.run(names, {self._input.name: batch})[0])
