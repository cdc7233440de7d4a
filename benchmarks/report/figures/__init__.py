"""Figures as themed SVG and PNG."""
