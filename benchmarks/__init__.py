"""The harness: grids of cells, probes, records, frontier, reports and the gate."""
