"""`python -m etad` is the `etad` command."""

from .pipeline.cli.main import main

if __name__ == "__main__":
    main()
