"""The kinds of destination: a FHIR server and a directory."""
