"""Certify a namespace: every entry of the op table, checked on any Array API library."""
