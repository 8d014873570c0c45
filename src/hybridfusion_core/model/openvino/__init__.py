"""The network as OpenVINO runs it on a CPU."""
