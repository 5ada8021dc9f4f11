"""The contract's generated messages and stubs: `make generate` writes this folder out of `protos/`; never edit it."""
