"""`budgetguard doctor`: what is installed, set and stored, and the proof that ledger and accounts agree."""
