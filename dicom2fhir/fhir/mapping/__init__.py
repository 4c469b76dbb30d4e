"""The mapping of a study to FHIR resources: the rules and the functions that they use."""
