"""Pipes: database, SQL loader, listening, outbound guard, child processes. Knows no noun of the product."""
