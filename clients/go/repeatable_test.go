package agentservice

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "agent-service.dev/clients/go/agentservicev1"
)

// attempts is how often a call is made that a server refuses once because it is away.
func attempts(t *testing.T, method string) int32 {
	t.Helper()
	var made atomic.Int32
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		if made.Add(1) == 1 {
			return status.Error(codes.Unavailable, "away")
		}
		return status.Error(codes.InvalidArgument, "refused")
	}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	client, err := New(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	path := "/" + pb.AgentService_ServiceDesc.ServiceName + "/" + method
	stream, err := client.work.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.SendMsg(&emptypb.Empty{})
	_ = stream.CloseSend()
	if err := stream.RecvMsg(&emptypb.Empty{}); err == nil {
		t.Fatal("it was answered")
	}
	return made.Load()
}

func TestThoseCallsAreRepeatedThatTheContractNames(t *testing.T) {
	text, err := os.ReadFile("../repeatable.txt")
	if err != nil {
		t.Fatal(err)
	}
	var repeated []string
	for _, name := range methods() {
		if attempts(t, name) == 2 {
			repeated = append(repeated, name)
		}
	}
	slices.Sort(repeated)
	if want := strings.Fields(string(text)); !slices.Equal(repeated, want) {
		t.Errorf("repeated: %v, not %v", repeated, want)
	}
}

func methods() []string {
	var names []string
	for _, method := range pb.AgentService_ServiceDesc.Methods {
		names = append(names, method.MethodName)
	}
	for _, stream := range pb.AgentService_ServiceDesc.Streams {
		names = append(names, stream.StreamName)
	}
	return names
}
