"""The load: a program in Go that calls a server in a closed loop, and the Python side that builds and runs it.

- `generator`: builds the program, runs it with a specification, and returns what it measured.

`main.go` reads the specification, `grpc.go` and `http1.go` make the calls, `tally.go` checks answers and counts times,
`model.go` is a model server with a streaming API.
"""
