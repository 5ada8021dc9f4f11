"""The server's certificate, and the authorities of client certificates. Independent of gRPC.

- `certificates`: a certificate, its key and its authorities, as PEM
- `certificate_files`: reads and checks them from files
"""
