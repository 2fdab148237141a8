"""The rules (docs/rules.md), pure: no await, no clock, no I/O, no logging, no third-party import but msgspec."""
