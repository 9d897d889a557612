"""Alerts: what somebody should look at before the bill comes, told once for its cause and window in the fleet.

`settings` says what is alerted and where to; `watching` finds what single calls tell, `burning`, `spending` and
`drifting` what stands in accounts and ledger; `alerting` runs all of it on an event loop; `shapes` and `sending` bring
it to webhooks and callables.
"""
