"""See inside: figures of what was learned and how well."""
