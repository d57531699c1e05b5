"""The read layer over HTTP. It reads storage, and never imports models, features or flows: it starts without torch."""
