"""Batch systems behind one interface: local, fake, and each later one."""
