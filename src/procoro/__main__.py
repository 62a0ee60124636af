"""`python -m procoro` is the command `procoro`."""

from procoro.cli import main

main()
