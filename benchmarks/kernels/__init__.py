"""The command that times the attention kernels against plain forms."""
