"""Makes `masked_portrait.mp4`: a portrait in the public domain, a drawn mask, gentle motion.

    python -m examples.make_clip

Run it in the root of the repository; it needs the `train` extra (scikit-image has the portrait of
astronaut Eileen Collins, by NASA). The same input gives the same pictures on every machine.
"""

import argparse
import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from skimage.data import astronaut

from stream_unmask.types import Image, Points
from training.dataset import face_finder, main_face
from training.masks import LEFT_CONTOUR, RIGHT_CONTOUR
from training.synthesis import drawn_templates, overlay

SIZE, RATE, SECONDS = 480, 25, 4
_HEAD = (slice(0, 330), slice(60, 390))  # of the 512 x 512 portrait
_STILL = 660  # side of the masked still: larger than the clip, so that there's room to move
_SOUND = 44100


def masked_still() -> Image:
    """The portrait, (660, 660, 3), in a surgical mask with ear loops."""
    portrait = cv2.resize(
        astronaut()[_HEAD], (_STILL, _STILL), interpolation=cv2.INTER_CUBIC
    ).astype(np.uint8)
    face = main_face(portrait, *face_finder())
    if face is None or face.mesh is None:
        raise SystemExit("No face was found in the portrait.")
    x0, y0, x1, y1 = (round(side) for side in face.box)
    margin = (x1 - x0) // 2
    rows = slice(max(y0 - margin, 0), y1 + margin)
    columns = slice(max(x0 - margin, 0), x1 + margin)
    mesh = face.mesh - np.array([columns.start, rows.start], np.float32)
    bare = portrait[rows, columns].astype(np.float32) / 255
    surgical_blue = drawn_templates()[0]
    trio = overlay(_with_loops(bare, mesh), mesh, surgical_blue)
    # The light on the face falls on the cloth as well: the left of this picture is brighter.
    light = cv2.GaussianBlur(cv2.cvtColor(bare, cv2.COLOR_RGB2GRAY), (0, 0), margin / 4)
    level = (light / float(light[trio.mask > 0.5].mean())) ** 0.5
    soft = cv2.GaussianBlur(trio.masked * level[..., None], (0, 0), 0.8)
    cover = trio.mask[..., None]
    portrait[rows, columns] = np.rint((trio.masked * (1 - cover) + soft * cover).clip(0, 1) * 255)
    return portrait


def _with_loops(picture: np.ndarray, mesh: Points) -> np.ndarray:
    """The face with an ear loop on each side, from the mask's corners to the ear."""
    alpha = np.zeros(picture.shape[:2], np.uint8)
    for contour, out in ((LEFT_CONTOUR, -1), (RIGHT_CONTOUR, 1)):
        ear = mesh[contour[1]] + (out * 5, 2)
        for corner in (mesh[contour[2]], mesh[contour[5]]):
            middle = (ear + corner) / 2 + (out * 4, 0)
            line = np.rint(np.stack([ear, middle, corner]) * 16).astype(np.int32)
            cv2.polylines(alpha, [line], False, 235, 2, cv2.LINE_AA, 4)
    cover = alpha[..., None].astype(np.float32) / 255
    white = np.array([0.9, 0.91, 0.92], np.float32)
    return (picture + (white - picture) * cover).astype(np.float32)


def moved(still: Image, turn: float) -> Image:
    """The picture (480, 480, 3) at `turn` (0..1) of one round of swaying, nodding and zooming."""
    phase = 2 * math.pi * turn
    matrix = cv2.getRotationMatrix2D(
        (0.5 * _STILL, 0.42 * _STILL), 7 * math.sin(phase), 0.92 + 0.10 * math.sin(2 * phase)
    )
    matrix[:, 2] += (SIZE - _STILL) / 2 + np.array([26 * math.sin(phase), 12 * math.sin(2 * phase)])
    return np.asarray(
        cv2.warpAffine(
            still, matrix, (SIZE, SIZE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        ),
        np.uint8,
    )


def chime() -> np.ndarray:
    """Four soft tones that fade, one a second: mono float32, to hear that sound stays."""
    time = np.arange(_SOUND * SECONDS) / _SOUND
    pitch = np.array([392.0, 440.0, 523.25, 440.0])[time.astype(int)]
    fade = np.exp(-5 * (time % 1)) * np.minimum((time % 1) / 0.02, 1)
    return (0.12 * np.sin(2 * math.pi * pitch * time) * fade).astype(np.float32)


def write(target: Path, still: Image) -> None:
    """The clip is in the file: H.264 and AAC."""
    with av.open(str(target), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=RATE, width=SIZE, height=SIZE)
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "24", "preset": "slower"}
        audio = container.add_stream("aac", rate=_SOUND, layout="mono", bit_rate=48000)
        container.metadata["comment"] = (
            "NASA's portrait of Eileen Collins (public domain) with a mask drawn by stream-unmask."
        )
        sound = chime()
        for index in range(RATE * SECONDS):
            picture = av.VideoFrame.from_ndarray(moved(still, index / (RATE * SECONDS)), "rgb24")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(picture))
        for begin in range(0, len(sound), 1024):
            part = av.AudioFrame.from_ndarray(sound[None, begin : begin + 1024], "fltp", "mono")
            part.sample_rate, part.pts, part.time_base = _SOUND, begin, Fraction(1, _SOUND)
            container.mux(audio.encode(part))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the example clip.")
    here = Path(__file__).parent
    parser.add_argument("target", type=Path, nargs="?", default=here / "masked_portrait.mp4")
    write(parser.parse_args().target, masked_still())


if __name__ == "__main__":
    main()
