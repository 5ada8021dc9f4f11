"""What the server shows to prove itself, and whose clients it lets in: certificates from files. Knows no gRPC."""
