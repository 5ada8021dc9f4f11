// What checks and generates the client, and what its users need not download: a module of its own.
module agent-service.dev/clients/go/internal

go 1.25.0

replace agent-service.dev/clients/go => ../

tool (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc
	google.golang.org/protobuf/cmd/protoc-gen-go
)

require (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
