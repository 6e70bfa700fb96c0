"""The generated pages under docs/reference: drawn from the code, so that they cannot say anything else.

    python -m tools.reference        writes them (`make docs`)

A contract test fails while a page differs from what the code says now.
"""
