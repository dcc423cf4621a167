"""Pure values that every layer shares: no I/O, no clock, nothing imported from above."""
