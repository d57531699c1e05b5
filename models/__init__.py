"""The model group: arrays in, predictions out. It must not know storage, flows or HTTP."""
