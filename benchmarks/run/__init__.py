"""The command that trains and measures a grid."""
