"""Records, devices, log readers and the timeline that joins them."""
