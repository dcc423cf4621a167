"""The composition root: one server process out of the rooms below, and its state directory."""
