package agentservice_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	agentservice "agent-service.dev/clients/go"
	pb "agent-service.dev/clients/go/agentservicev1"
)

const serviceName = "agent_service.v1.AgentService"

// fake is a service that does what a test says, try by try; the last entry serves all further ones.
type fake struct {
	pb.UnimplementedAgentServiceServer
	run      []func(context.Context, *pb.RunTaskRequest) (*pb.RunTaskResponse, error)
	stream   []func(*pb.StreamTaskRequest, grpc.ServerStreamingServer[pb.StreamTaskResponse]) error
	watch    []func(*pb.WatchTaskRequest, grpc.ServerStreamingServer[pb.WatchTaskResponse]) error
	get      []func(*pb.GetTaskRequest) (*pb.GetTaskResponse, error)
	list     []func(*pb.ListTasksRequest) (*pb.ListTasksResponse, error)
	tool     []func(*pb.ToolInvokeRequest) (*pb.ToolInvokeResponse, error)
	canceled chan string

	mutex      sync.Mutex
	requestIDs []string
	keys       []string
}

// next takes the first of what is left to do, and remembers which request asked.
func next[F any](f *fake, left *[]F, requestID string) F {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.requestIDs = append(f.requestIDs, requestID)
	now := (*left)[0]
	if len(*left) > 1 {
		*left = (*left)[1:]
	}
	return now
}

func (f *fake) tries() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return append([]string(nil), f.requestIDs...)
}

func (f *fake) RunTask(ctx context.Context, request *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
	return next(f, &f.run, request.GetRequestId())(ctx, request)
}

func (f *fake) StreamTask(request *pb.StreamTaskRequest, stream grpc.ServerStreamingServer[pb.StreamTaskResponse]) error {
	return next(f, &f.stream, request.GetRun().GetRequestId())(request, stream)
}

func (f *fake) WatchTask(request *pb.WatchTaskRequest, stream grpc.ServerStreamingServer[pb.WatchTaskResponse]) error {
	return next(f, &f.watch, "")(request, stream)
}

func (f *fake) GetTask(_ context.Context, request *pb.GetTaskRequest) (*pb.GetTaskResponse, error) {
	return next(f, &f.get, "")(request)
}

func (f *fake) ListTasks(_ context.Context, request *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	return next(f, &f.list, "")(request)
}

func (f *fake) ToolInvoke(_ context.Context, request *pb.ToolInvokeRequest) (*pb.ToolInvokeResponse, error) {
	return next(f, &f.tool, request.GetRequestId())(request)
}

func (f *fake) CancelTask(_ context.Context, request *pb.CancelTaskRequest) (*pb.CancelTaskResponse, error) {
	f.canceled <- request.GetTaskId()
	return &pb.CancelTaskResponse{Task: &pb.Task{Id: request.GetTaskId()}}, nil
}

func (f *fake) ListAgents(ctx context.Context, _ *pb.ListAgentsRequest) (*pb.ListAgentsResponse, error) {
	came, _ := metadata.FromIncomingContext(ctx)
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.keys = append(f.keys, came.Get("x-api-key")...)
	return &pb.ListAgentsResponse{}, nil
}

// serve serves at an address of this machine until the test ends.
func serve(t *testing.T, address string, f *fake, options ...grpc.ServerOption) (*grpc.Server, *health.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f.canceled = make(chan string, 10)
	server, ready := grpc.NewServer(options...), health.NewServer()
	ready.SetServingStatus(serviceName, healthpb.HealthCheckResponse_SERVING)
	pb.RegisterAgentServiceServer(server, f)
	healthpb.RegisterHealthServer(server, ready)
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return server, ready, listener.Addr().String()
}

func connect(t *testing.T, target string, options ...agentservice.Option) *agentservice.Client {
	t.Helper()
	client, err := agentservice.New(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// started is a client of a service that does what f says.
func started(t *testing.T, f *fake, options ...agentservice.Option) *agentservice.Client {
	t.Helper()
	_, _, target := serve(t, "127.0.0.1:0", f)
	return connect(t, target, options...)
}

// within is a context that ends a test which hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func refusal(code codes.Code, reason string, details ...protoadapt.MessageV1) error {
	told := append(details, protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: reason, Domain: "agent-service", Metadata: map[string]string{"about": "x"}}))
	refused, err := status.New(code, "refused").WithDetails(told...)
	if err != nil {
		panic(err)
	}
	return refused.Err()
}

func retryIn(delay time.Duration) protoadapt.MessageV1 {
	return protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
}

var gone = status.Error(codes.Unavailable, "gone")

// turnedAway is how grpc ends what arrives while a server stops.
var turnedAway = status.Error(codes.Canceled, "CANCELLED")

func tell(sequence int64) *pb.TaskEvent {
	return &pb.TaskEvent{TaskId: "task-1", Sequence: sequence, Event: &pb.TaskEvent_ModelStarted{ModelStarted: &pb.ModelStarted{}}}
}

func delta(sequence int64, text string) *pb.TaskEvent {
	return &pb.TaskEvent{TaskId: "task-1", Sequence: sequence, Event: &pb.TaskEvent_TextDelta{TextDelta: &pb.TextDelta{Text: text}}}
}

func reasoning(sequence int64, text string) *pb.TaskEvent {
	return &pb.TaskEvent{TaskId: "task-1", Sequence: sequence, Event: &pb.TaskEvent_ReasoningDelta{ReasoningDelta: &pb.ReasoningDelta{Text: text}}}
}

func completed(sequence int64) *pb.TaskEvent {
	return &pb.TaskEvent{TaskId: "task-1", Sequence: sequence, Event: &pb.TaskEvent_Completed{Completed: &pb.TaskCompleted{}}}
}

// streams sends these events and ends so.
func streams(end error, events ...*pb.TaskEvent) func(*pb.StreamTaskRequest, grpc.ServerStreamingServer[pb.StreamTaskResponse]) error {
	return func(_ *pb.StreamTaskRequest, stream grpc.ServerStreamingServer[pb.StreamTaskResponse]) error {
		for _, event := range events {
			if err := stream.Send(&pb.StreamTaskResponse{Event: event}); err != nil {
				return err
			}
		}
		if end == errStays {
			<-stream.Context().Done()
		}
		return end
	}
}

// errStays makes a stream stay open until its caller has gone.
var errStays = status.Error(codes.Canceled, "stayed to the end")

func answers(task *pb.Task, err error) func(context.Context, *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
	return func(context.Context, *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
		if err != nil {
			return nil, err
		}
		return &pb.RunTaskResponse{Task: task}, nil
	}
}

// accepts tells the task's id, then goes on.
func accepts(then func(context.Context, *pb.RunTaskRequest) (*pb.RunTaskResponse, error)) func(context.Context, *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
	return func(ctx context.Context, request *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
		if err := grpc.SendHeader(ctx, metadata.Pairs("x-task-id", "task-1")); err != nil {
			return nil, err
		}
		return then(ctx, request)
	}
}
