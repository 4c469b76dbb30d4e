"""From a study to FHIR resources, and to the server that takes them."""
