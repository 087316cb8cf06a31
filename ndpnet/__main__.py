"""`python -m ndpnet` is the command `ndpnet`."""

from ndpnet.cli import main

if __name__ == "__main__":
    main(prog_name="ndpnet")
