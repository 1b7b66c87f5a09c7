"""HTTP listener and clients, gRPC on unix sockets, TLS and limits."""
