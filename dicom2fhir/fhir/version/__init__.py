"""What differs between FHIR versions: names, datatypes, formats, code tables, validation."""
