"""Top-k kernels. Import as `pellucid.kernels`."""
