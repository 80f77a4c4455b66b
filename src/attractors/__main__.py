"""python -m attractors COMMAND ..."""

from attractors.cli.group import main

if __name__ == "__main__":
    main(prog_name="python -m attractors")
