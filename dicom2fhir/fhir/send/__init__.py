"""The destinations: a FHIR server, or a directory."""
