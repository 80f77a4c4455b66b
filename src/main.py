"""The command line from a checkout: python src/main.py COMMAND ... is what `attractors COMMAND ...` is once installed.

The code that runs is always the one beside this file, whichever version of the package is installed.
"""

from attractors.cli.group import main

if __name__ == "__main__":
    main(prog_name="python src/main.py")
