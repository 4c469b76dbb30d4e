"""From a study to FHIR resources: the rules, and what they mean."""
