"""`python -m iii_state`: the command, where no script is installed."""

from iii_state.cli import main

if __name__ == "__main__":
    main()
