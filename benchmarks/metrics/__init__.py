"""Which metric notices that a scene broke, how soon, and at what cost."""
