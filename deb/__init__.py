"""The Debian package: ``make deb`` builds it and tries it."""
