"""Files from watched folders."""
