"""Builds every shipped engine with TensorRT for this machine's GPU, ahead of its first use.

    python -m engines.build_tensorrt                   in a checkout
    python -m stream_unmask.engines.build_tensorrt     where stream-unmask is installed

Whoever doesn't call it waits for it once, when the TensorRT backend first opens an engine. What is
built is kept in the user's cache folder.
"""

import argparse
import time

from stream_unmask.backends import EngineSpec, open_engine
from stream_unmask.errors import BackendError
from stream_unmask.faces.detector import FACE_DETECTION
from stream_unmask.faces.landmarks import FACE_LANDMARK
from stream_unmask.models.profile import PROFILES


def specs() -> list[EngineSpec]:
    """What every shipped engine promises."""
    networks = [
        spec
        for profile in PROFILES.values()
        for spec in (profile.segmenter, profile.inpainter, profile.enhancer)
    ]
    return [FACE_DETECTION, FACE_LANDMARK, *(spec for spec in networks if spec is not None)]


def main() -> None:
    """Builds them one after the other; ends with a sentence if one can't be built."""
    argparse.ArgumentParser(description="Builds every engine with TensorRT.").parse_args()
    for spec in specs():
        start = time.perf_counter()
        try:
            engine = open_engine(spec, "tensorrt")
        except BackendError as error:
            raise SystemExit(str(error)) from error
        engine.close()
        print(f"{spec.name}: {engine.device}, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
