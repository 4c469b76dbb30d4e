"""The receivers: C-STORE associations and watched folders."""
