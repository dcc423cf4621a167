"""What watchers see: logs and numbers."""
