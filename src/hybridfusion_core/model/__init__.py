"""The network and everything about its numbers: focus measures, noise, posterior, files, devices and runtimes."""
