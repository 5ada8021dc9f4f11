"""What the server shows to prove itself, and whose clients it lets in. Knows no gRPC.

- `certificates`: a certificate, its key and its authorities, as PEM
- `certificate_files`: reads and checks them from files
"""
