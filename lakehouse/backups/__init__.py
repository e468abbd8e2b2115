"""Backups of the lakehouse as its operators and its customer take them, and the proof that each can be restored."""
