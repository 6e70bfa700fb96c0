"""The demonstration: one campaign from a CSV file to the last answer, on real servers, with a proof at the end."""
