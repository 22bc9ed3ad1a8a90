"""`python -m etad` is the `etad` command."""

from etad.pipeline.cli import main

if __name__ == "__main__":
    main()
