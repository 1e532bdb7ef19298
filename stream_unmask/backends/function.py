"""A fake backend: any Python function as an engine, for tests and experiments."""

from collections.abc import Callable

from stream_unmask.backends.engine import EngineSpec, Tensor


class FunctionEngine:
    """Runs `function(*inputs)`, which returns one array or a tuple of them, as an engine."""

    device = "python"

    def __init__(
        self, spec: EngineSpec, function: Callable[..., Tensor | tuple[Tensor, ...]]
    ) -> None:
        self.spec = spec
        self._function = function

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        result = self._function(*inputs)
        return result if isinstance(result, tuple) else (result,)

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
