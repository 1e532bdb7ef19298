"""`stream-unmask info`."""

import platform
from importlib.metadata import version

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream_unmask.backends import BACKENDS, installed, package
from stream_unmask.backends.artefacts import engine_path, engines_folder, manifest
from stream_unmask.errors import BackendError

command = typer.Typer(add_completion=False)


@command.command()
def info() -> None:
    """Shows the version, backends with their devices, and engines with their checksums."""
    console = Console()
    system = f"Python {platform.python_version()}, {platform.platform()}"
    console.print(f"stream-unmask {version('stream-unmask')} ({system})", highlight=False)
    table = Table("backend", "installed", "devices", title="Backends", title_justify="left")
    for name in BACKENDS:
        present = name in installed()
        hint = escape(f"no: pip install '{package(name)}'")
        table.add_row(name, "yes" if present else hint, _devices(name) if present else "")
    console.print(table)
    table = Table("engine", "SHA-256", "licence", title="Engines", title_justify="left")
    for name, facts in manifest().items():
        engine_path(name)  # which compares the checksum with the file's
        table.add_row(name, facts["sha256"][:16], facts["licence"])
    console.print(table)
    console.print(f"Engines are in {engines_folder()}; checksums fit.", highlight=False)


def _devices(backend: str) -> str:
    if backend == "tensorrt":
        try:
            from stream_unmask.backends.cuda import gpu

            return gpu().name
        except (ImportError, BackendError) as error:
            return f"none: {error}"
    if backend == "openvino":
        from stream_unmask.backends.openvino import devices

        return ", ".join(devices())
    import onnxruntime

    names = onnxruntime.get_available_providers()
    return ", ".join(name.removesuffix("ExecutionProvider") for name in names)
