"""Pictures, pages and drawings."""
