"""`python -m budgetguard.cli`."""

from budgetguard.cli import main

main()
