"""Whoever answers a call: endpoints, a hub, a model on this machine."""
