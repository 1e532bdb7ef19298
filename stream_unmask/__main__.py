"""`python -m stream_unmask` is the same as `stream-unmask`."""

from stream_unmask.cli import main

if __name__ == "__main__":
    main()
