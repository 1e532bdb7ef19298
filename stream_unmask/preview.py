"""The window of the live preview: what it shows, and the keys that change that."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from stream_unmask.errors import OptionError
from stream_unmask.pipeline import Composed
from stream_unmask.types import Crop, Image
from stream_unmask.video.frame import to_rgb

KEYS = {
    "q": "quit",
    "space": "freeze the picture",
    "s": "before | after, at the mouse",
    "m": "show the map",
    "b": "show faces and their numbers",
    "r": "record, or stop",
    "p": "save a picture",
    "f": "full screen",
    "h": "show these keys",
}
_ALIKE = {"escape": "q", "return": "f", "?": "h"}
_TINT, _LINE, _PAPER = (255, 40, 60), (255, 255, 255), (0, 0, 0)


@dataclass(slots=True)
class View:
    """What is switched on, by the keys of the same letter. at: where the mouse is, 0..1 across."""

    split: bool = False
    map: bool = False
    boxes: bool = False
    help: bool = False
    frozen: bool = False
    at: float = 0.5

    def press(self, key: str) -> None:
        """Nothing comes back; what the key stands for is switched, if it stands for anything."""
        name = {"s": "split", "m": "map", "b": "boxes", "h": "help", "space": "frozen"}.get(key)
        if name is not None:
            setattr(self, name, not getattr(self, name))

    def __call__(self, composed: Composed) -> Image:
        """The picture (H, W, 3) to show of a finished frame."""
        picture = to_rgb(composed.frame.picture)
        if self.map:
            tint = np.array(_TINT, np.float32) - picture
            picture = np.rint(picture + 0.5 * composed.mask()[..., None] * tint).astype(np.uint8)
        if self.split:
            column = round(self.at * picture.shape[1])
            picture[:, :column] = to_rgb(composed.scene.frame.picture)[:, :column]
            picture[:, max(column - 1, 0) : column + 1] = _LINE
        if self.boxes:
            for crop in composed.scene.crops:
                _outline(picture, crop)
        return picture


def _outline(picture: Image, crop: Crop) -> None:
    """Draws where a face was cut out, and its number."""
    height, width = crop.image.shape[:2]
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)])
    outline = np.rint(corners @ crop.to_frame.T).astype(np.int32)
    colour = _LINE if crop.mask is None else _TINT
    cv2.polylines(picture, [outline], True, colour, 1, cv2.LINE_AA)
    at = (int(outline[0, 0]) + 4, int(outline[0, 1]) + 16)
    cv2.putText(picture, str(crop.track), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


class Window:
    """A window for pictures of one size (width, height); `open_window` makes it."""

    def __init__(self, pygame: Any, size: tuple[int, int], full: bool) -> None:
        self._pygame, self._size = pygame, size
        self._font = pygame.font.Font(None, max(size[1] // 24, 18))
        # The window scales what it shows to its own size.
        flags = pygame.SCALED | (pygame.FULLSCREEN if full else pygame.RESIZABLE)
        with warnings.catch_warnings():  # that scaling takes the processor
            warnings.simplefilter("ignore")
            self._screen = pygame.display.set_mode(size, flags)

    def show(self, picture: Image, lines: Sequence[str]) -> None:
        """Nothing comes back; the picture (H, W, 3) is seen, with lines of text in its corner."""
        surface = self._pygame.image.frombuffer(picture.tobytes(), self._size, "RGB")
        self._screen.blit(surface, (0, 0))
        y = 6
        for line in lines:
            ink = self._font.render(line, True, _LINE, _PAPER)
            ink.set_alpha(200)
            self._screen.blit(ink, (8, y))
            y += ink.get_height()
        self._pygame.display.flip()

    def pressed(self, view: View) -> Iterator[str]:
        """The keys that were pressed, "q" if the window was closed; the view has the mouse."""
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                yield "q"
            elif event.type == pygame.MOUSEMOTION:
                view.at = event.pos[0] / self._size[0]
            elif event.type == pygame.KEYDOWN:
                key = event.unicode if event.unicode == "?" else pygame.key.name(event.key)
                key = _ALIKE.get(key, key)
                if key == "f":
                    pygame.display.toggle_fullscreen()
                yield key


@contextmanager
def open_window(size: tuple[int, int], title: str, full: bool = False) -> Iterator[Window]:
    """A window for pictures (width, height), gone when the block ends; OptionError if there can be
    none."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise OptionError(
            "The window needs pygame-ce; pip install 'stream-unmask[live]' brings it."
        ) from error
    try:
        try:
            pygame.display.init()
            pygame.font.init()
            pygame.display.set_caption(title)
            window = Window(pygame, size, full)
        except pygame.error as error:
            raise OptionError(
                f"No window can be opened ({error}); --no-window does without."
            ) from error
        yield window
    finally:
        pygame.quit()
