"""The rule, pure: standard library only, no I/O, no clock, no asyncio."""
