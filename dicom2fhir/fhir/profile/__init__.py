"""Profiles: what a country or a project asks for beyond its FHIR version."""
