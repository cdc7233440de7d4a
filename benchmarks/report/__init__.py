"""Renders the page of a run: what each configuration costs and keeps."""
