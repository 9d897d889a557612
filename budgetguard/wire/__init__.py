"""What is known of the HTTP APIs of providers: which request is which call, how bodies are framed, what they report.

Pure: no I/O, no clock. `apis` recognises a request, `frames` takes streams apart, `reports` reads what was used.
"""
