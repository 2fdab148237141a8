"""What a seller may publish (R7 to R11, R15, R24 to R26, R31, R32): the quote's content, its totals, its faults. Pure."""
