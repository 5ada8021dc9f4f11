"""Certificates of the server, and the authorities of its clients' certificates, from files. Does not depend on gRPC."""
