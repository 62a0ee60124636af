"""`python -m procoro.cli` is the command `procoro`."""

from procoro.cli import main

main()
