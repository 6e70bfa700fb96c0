"""The audit log: one append-only hash chain per tenant, NIL being the installation's."""
