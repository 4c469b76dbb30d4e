"""What the bridge asks of the machine it runs on: permissions, durable files, mounts, the network, systemd."""
