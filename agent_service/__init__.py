"""Runs LLM agents as durable tasks behind gRPC."""
