"""The parts of `budgetguard.estimate`: what a request holds, what it weighs, and what it may bring back."""
