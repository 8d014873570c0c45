"""Find and read plates and folders of stacks: what they hold, which of it is chosen, each field as a `Stack`."""
