"""Engines on ONNX Runtime: the CPU, or CUDA with the GPU build."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from stream_unmask.backends.engine import EngineSpec, Tensor
from stream_unmask.errors import BackendError

_PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}


class OnnxRuntimeEngine:
    """An inference session."""

    def __init__(self, spec: EngineSpec, session: ort.InferenceSession) -> None:
        self.spec = spec
        # What the session really got: a GPU provider that can't load is dropped without an error.
        self.device = f"onnxruntime {session.get_providers()[0].removesuffix('ExecutionProvider')}"
        self.batch = 2 if self.device.endswith("CPU") else 8
        self._session: ort.InferenceSession | None = session

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._session is None:
            raise BackendError(f"The engine {self.spec.name} was closed.")
        feed = dict(zip((tensor.name for tensor in self.spec.inputs), inputs, strict=True))
        names = [tensor.name for tensor in self.spec.outputs]
        return tuple(np.asarray(out, np.float32) for out in self._session.run(names, feed))

    def close(self) -> None:
        """Frees the session."""
        self._session = None


def open_engine(
    spec: EngineSpec, path: Path, device: str, precision: str = "auto"
) -> OnnxRuntimeEngine:
    """Opens `path`, in fp32; device "gpu" fails rather than quietly running on the CPU."""
    if device not in ("auto", *_PROVIDERS):
        raise BackendError(f"there is no device {device!r}; choose auto, cpu or gpu")
    if precision not in ("auto", "fp32"):
        raise BackendError(f"it computes in fp32, not in {precision}")
    wanted = ["gpu", "cpu"] if device == "auto" else [device]
    available = ort.get_available_providers()
    providers = [_PROVIDERS[name] for name in wanted if _PROVIDERS[name] in available]
    if not providers:
        raise BackendError("this build of ONNX Runtime has no CUDA provider")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors share no base class of their own
        raise BackendError(str(error).strip().splitlines()[-1]) from error
    if device == "gpu" and session.get_providers()[0] != _PROVIDERS["gpu"]:
        raise BackendError("the CUDA provider is listed but could not be loaded")
    return OnnxRuntimeEngine(spec, session)
