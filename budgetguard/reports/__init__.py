"""Reports: what calls cost and took, added up from a ledger's rows for people and for other programs.

`asking` puts a question to a `Book` and orders the answer, `folding` makes local days of its quarters of an hour,
`verifying` adds it all up again from the single rows. Each form that it is shown in has a file of its own (`as_*`).
"""
