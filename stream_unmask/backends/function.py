"""A fake backend: any Python function as an engine, for tests and experiments."""

from collections.abc import Callable

from stream_unmask.backends.engine import EngineSpec, Tensor
from stream_unmask.errors import BackendError


class FunctionEngine:
    """Runs `function(*inputs)`, which returns one array or a tuple of them, as an engine."""

    device = "python"
    batch = 8

    def __init__(
        self, spec: EngineSpec, function: Callable[..., Tensor | tuple[Tensor, ...]]
    ) -> None:
        self.spec = spec
        self._function: Callable[..., Tensor | tuple[Tensor, ...]] | None = function

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._function is None:
            raise BackendError(f"The engine {self.spec.name} was closed.")
        result = self._function(*inputs)
        return result if isinstance(result, tuple) else (result,)

    def close(self) -> None:
        """Lets go of the function."""
        self._function = None
