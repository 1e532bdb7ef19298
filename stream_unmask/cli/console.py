"""What all commands print alike."""

from rich.console import Console


def say_error(text: str) -> None:
    Console(stderr=True).print(
        f"Error: {text}", style="red", markup=False, highlight=False, soft_wrap=True
    )
